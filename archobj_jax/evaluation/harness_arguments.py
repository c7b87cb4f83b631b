"""What the harness's command and its tasks say: `--model_args`, and a task's generation_kwargs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lm_eval.models.utils import normalize_gen_kwargs

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.evaluation.boundaries import MAX_LENGTH
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import BATCH_TOKENS
from archobj_jax.inference.sampling import Sampling

MAX_GEN_TOKS = 256
"""New tokens at most, where a task does not say: the harness's own number."""

_GENERATION = ("until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `--model_args` may say.

    Attributes:
      checkpoint: a run's folder (its newest checkpoint), or one checkpoint.
      cache_dir: where the vocabulary lies if it is one that is made there; None is where the run
        had it.
      max_length: tokens that are read of one example, see `Boundaries`.
      max_gen_toks: new tokens at most, where a task does not say.
      batch_tokens: about how many tokens a device reads at a time.
      fsdp, tensor: axes of the mesh over all devices, see `Partitioner`.
      seed: of random generation.
    """

    checkpoint: str
    cache_dir: str | None = None
    max_length: int = MAX_LENGTH
    max_gen_toks: int = MAX_GEN_TOKS
    batch_tokens: int = BATCH_TOKENS
    fsdp: int = 1
    tensor: int = 1
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Arguments":
        """Those given, checked.

        Raises:
          UserError: one is unknown, missing or of another type.
        """
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        for name, value in given.items():
            if name not in types:
                hint = did_you_mean(name, types) or f" There are: {', '.join(types)}."
                raise UserError(f"--model_args {name}={value}: there is no such argument.{hint}")
            if types[name] is int and (not isinstance(value, int) or isinstance(value, bool)):
                raise UserError(f"--model_args {name}={value}: expected a whole number.")
        if "checkpoint" not in given:
            raise UserError(
                "--model_args: give checkpoint=…, a run's folder or one of its checkpoints."
            )
        return cls(**{**given, "checkpoint": str(given["checkpoint"])})


def check_unused(given: Mapping[str, Any]) -> None:
    """Raises UserError if the harness was told about batches or devices, which is said otherwise.

    Args:
      given: `--batch_size`, `--max_batch_size` and `--device`; the harness's defaults are 1, None
        and cuda:0.
    """
    if given.get("batch_size", 1) not in (1, "1", "auto") or given.get("max_batch_size"):
        raise UserError(
            "--batch_size: batches hold a number of tokens; give --model_args batch_tokens=…"
        )
    if given.get("device") not in (None, "cuda:0"):
        raise UserError(f"--device {given['device']}: set JAX_PLATFORMS instead.")


def generation(given: Mapping[str, Any], *, max_gen_toks: int, seed: int) -> Generation:
    """What a task's generation_kwargs ask for, in any of the harness's spellings.

    Args:
      given: the keywords.
      max_gen_toks: new tokens at most, if they do not say.
      seed: of random generation.

    Raises:
      ValueError: a keyword is unknown.
      UserError: a value is out of its range.
    """
    kwargs = normalize_gen_kwargs(given, max_gen_toks)
    if unknown := sorted(kwargs.keys() - set(_GENERATION)):
        hint = did_you_mean(unknown[0], _GENERATION) or f" Known: {', '.join(_GENERATION)}."
        raise ValueError(f"generation_kwargs has the unknown '{unknown[0]}'.{hint}")
    sampling = Sampling()
    if kwargs["do_sample"]:
        sampling = Sampling(
            temperature=float(given.get("temperature", 1.0)),
            top_k=int(kwargs.get("top_k", 0)),
            top_p=float(kwargs.get("top_p", 1.0)),
        )
    return Generation(
        max_new_tokens=kwargs["max_gen_toks"],
        sampling=sampling,
        stop=tuple(text for text in kwargs["until"] if text is not None),
        seed=seed,
    )
