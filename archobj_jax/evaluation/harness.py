"""Our models as a model of the EleutherAI harness (lm-eval, extra `eval`)."""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from archobj_jax.errors import UserError
from archobj_jax.evaluation.boundaries import MAX_LENGTH, Boundaries, Pair
from archobj_jax.evaluation.harness_arguments import (
    MAX_GEN_TOKS,
    Arguments,
    check_unused,
    generation,
)
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.questions import Question, Total
from archobj_jax.inference.runner import Runner
from archobj_jax.partitioning.partitioner import Partitioner

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class HarnessLM(LM):
    """A model that answers the harness's requests.

    Requests with the same context make one question, so that it is read once. Contexts longer than
    the model reads lose their beginning, as in the harness's own models, and are counted in its
    log. There are no chat templates. All processes of a run make the same calls and get the same
    answers, so to the harness there is one.

    Args:
      runner: does the work.
      name: of the work, in the runner's journal and progress.
      max_length, max_gen_toks, seed: see `Arguments`.

    Attributes:
      truncated: contexts that lost their beginning.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        name: str = "harness",
        max_length: int = MAX_LENGTH,
        max_gen_toks: int = MAX_GEN_TOKS,
        seed: int = 0,
    ):
        super().__init__()
        if max_length < 2:
            raise UserError(f"max_length = {max_length}: must be at least 2.")
        self.runner, self.name, self.max_gen_toks, self.seed = runner, name, max_gen_toks, seed
        self.truncated: set[str] = set()
        predictor = runner.predictor
        self.boundaries = Boundaries.of(
            predictor.vocabulary, predictor.blueprint.architecture.layout, max_length=max_length
        )

    @property
    def max_length(self) -> int:
        """Tokens that are read of one example."""
        return self.boundaries.max_length

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "HarnessLM":
        """From `--model_args` as text; see `create_from_arg_obj`."""
        return cls.create_from_arg_obj(
            utils.simple_parse_args_string(arg_string), additional_config
        )

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> "HarnessLM":
        """Reads a checkpoint, as the harness's command asks for it.

        Args:
          arg_dict: see `Arguments`.
          additional_config: the harness's `--batch_size`, `--max_batch_size` and `--device`.

        Raises:
          UserError: an argument is wrong, or as `Predictor.from_checkpoint`.
          MachineError: the checkpoint is damaged.
        """
        arguments = Arguments.of(arg_dict)
        check_unused(additional_config or {})
        predictor = Predictor.from_checkpoint(
            arguments.checkpoint,
            cache_dir=arguments.cache_dir,
            partitioner=Partitioner(fsdp=arguments.fsdp, tensor=arguments.tensor),
        )
        return cls(
            Runner(predictor, batch_tokens=arguments.batch_tokens),
            max_length=arguments.max_length,
            max_gen_toks=arguments.max_gen_toks,
            seed=arguments.seed,
        )

    @property
    def tokenizer_name(self) -> str:
        """Asked for where a chat template is applied.

        Raises:
          UserError: always.
        """
        raise _no_chat()

    def chat_template(self, chat_template: bool | str = False) -> str:
        """None; see `tokenizer_name`."""
        if chat_template:
            raise _no_chat()
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """There is none; see `tokenizer_name`."""
        del chat_history, add_generation_prompt
        raise _no_chat()

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log likelihood of each continuation, and whether it is the greedy one.

        Args:
          requests: with arguments (context, continuation).

        Raises:
          UserError: a continuation has no tokens, or too many; says which.
        """
        pairs = [_located(self._pair, request) for request in requests]
        self._keep_truncated(requests, [pair.dropped for pair in pairs])
        totals = self._score("log likelihoods", pairs)
        return [(total.total, total.is_greedy) for total in totals]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log likelihood of each whole text, read in windows of `max_length` tokens.

        Args:
          requests: with arguments (text,).
        """
        windows = [self._windows(*request.args) for request in requests]
        totals = iter(self._score("rolling log likelihoods", list(itertools.chain(*windows))))
        return [sum(next(totals).total for _ in pairs) for pairs in windows]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """What the model writes after each context, up to a stop string.

        Args:
          requests: with arguments (context, generation_kwargs).

        Raises:
          UserError: a keyword is unknown or wrong, or leaves no room for a context; says which.
        """
        configs = [_located(self._generation, request) for request in requests]
        prompts = [
            _located(self._prompt, request, config)
            for request, config in zip(requests, configs, strict=True)
        ]
        self._keep_truncated(requests, [dropped for _, dropped in prompts])
        texts: dict[int, str] = {}
        for number, config in enumerate(dict.fromkeys(configs)):
            asked = [index for index, other in enumerate(configs) if other == config]
            made = self.runner.generate(
                f"{self.name}, generation {number}", [prompts[index][0] for index in asked], config
            )
            texts |= {index: made[0].text for index, made in zip(asked, made, strict=True)}
        return [texts[index] for index in range(len(requests))]

    def _score(self, what: str, pairs: Sequence[Pair]) -> list[Total]:
        """Scores pairs: equal ones once, and those with the same inputs together.

        Without inputs there is nothing to read once, and each is a question of its own.
        """
        keys = [(pair.inputs.tobytes(), pair.targets.tobytes()) for pair in pairs]
        asked: dict[tuple[bytes, bytes], dict[tuple[bytes, bytes], Pair]] = {}
        for key, pair in zip(keys, pairs, strict=True):
            asked.setdefault((key[0], b"") if key[0] else key, {})[key] = pair
        questions = [
            Question(next(iter(same.values())).inputs, tuple(p.targets for p in same.values()))
            for same in asked.values()
        ]
        scores = self.runner.score(f"{self.name}, {what}", questions)
        found = {
            key: total
            for same, totals in zip(asked.values(), scores, strict=True)
            for key, total in zip(same, totals, strict=True)
        }
        return [found[key] for key in keys]

    def _windows(self, text: str) -> list[Pair]:
        """Windows that predict each token of a text once, after one token of context if any.

        The first has no inputs: where the harness puts a prefix token, our models start with
        theirs.
        """
        start = [-1]
        windows = utils.get_rolling_token_windows(
            self.boundaries.tokens(text).tolist(),
            prefix_token=start[0],
            max_seq_len=self.max_length - 1,  # and one of context
            context_len=1,
        )
        made = []
        for context, predicted in map(utils.make_disjoint_window, windows):
            inputs = [] if context == start else context
            made.append(Pair(np.array(inputs, np.int32), np.array(predicted, np.int32)))
        return made

    def _pair(self, request: Instance) -> Pair:
        return self.boundaries.pair(*request.args)

    def _generation(self, request: Instance) -> Generation:
        return generation(request.args[1], max_gen_toks=self.max_gen_toks, seed=self.seed)

    def _prompt(self, request: Instance, config: Generation) -> tuple[np.ndarray, int]:
        return self.boundaries.prompt(request.args[0], new_tokens=config.max_new_tokens)

    def _keep_truncated(self, requests: Sequence[Instance], dropped: Sequence[int]) -> None:
        cut = [request.args[0] for request, n in zip(requests, dropped, strict=True) if n]
        self.truncated.update(cut)
        if cut:
            _logger.warning(
                "%s: %d of %d contexts lost their beginning, as they have more tokens than "
                "max_length = %d leaves them.",
                self.name,
                len(cut),
                len(requests),
                self.max_length,
            )


def _located(function: Callable[..., T], request: Instance, *arguments: Any) -> T:
    """Calls `function` with a request; what it finds wrong is told with task and document."""
    try:
        return function(request, *arguments)
    except (ValueError, UserError) as error:
        raise UserError(
            f"task '{request.task_name}', document {request.doc_id}: {str(error).rstrip('.')}."
        ) from error


def _no_chat() -> UserError:
    return UserError("these models have no chat template; leave --apply_chat_template out.")
