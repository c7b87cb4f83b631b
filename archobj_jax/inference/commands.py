"""`archobj score` and `archobj generate`."""

from collections.abc import Sequence
from typing import Any

from archobj_jax.errors import UserError
from archobj_jax.inference import writing
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.sampling import Sampling
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import compilation


def score(
    *,
    checkpoint_path: str,
    targets: str,
    inputs: str = "",
    cache_dir: str | None = None,
    compilation_cache_dir: str | None = compilation.DEFAULT_CACHE_DIR,
) -> None:
    """Prints the log-likelihood of `targets` after `inputs`, by token and summed."""
    compilation.use_cache(compilation_cache_dir)
    predictor = Predictor.from_checkpoint(checkpoint_path, cache_dir=cache_dir)
    try:
        (result,) = predictor.score([(inputs, targets)])
    except ValueError as error:
        raise UserError(f"--targets: {error}.") from error
    pieces = predictor.vocabulary.encode(targets)
    for piece, value in zip(pieces, result.log_likelihoods, strict=True):
        print(f"{value:10.4f}  {predictor.vocabulary.decode([piece])!r}")
    print(f"{result.total:10.4f}  in all, {len(pieces)} tokens; greedy: {result.is_greedy}")


def generate(
    *,
    checkpoint_path: str,
    prompt: str | None = None,
    prompts_file: str | None = None,
    interactive: bool = False,
    max_new_tokens: int = 64,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    num_samples: int = 1,
    stop: Sequence[str] = (),
    seed: int = 0,
    cache_dir: str | None = None,
    partitioner: Partitioner | None = None,
    compilation_cache_dir: str | None = compilation.DEFAULT_CACHE_DIR,
) -> None:
    """Prints what a model writes after one prompt, those of a file, or those that are typed.

    Args:
      checkpoint_path: of a run (its newest checkpoint) or of a checkpoint.
      prompt: a text to go on from.
      prompts_file: a file with a prompt a line; results are JSON lines.
      interactive: prompts are read from standard input.
      max_new_tokens, num_samples, stop, seed: see `Generation`.
      temperature, top_k, top_p: see `Sampling`.
      beams, length_penalty: see `BeamSearch`.
      cache_dir, partitioner: see `Predictor.from_checkpoint`.
      compilation_cache_dir: keeps compiled programs; None keeps none.

    Raises:
      UserError: options contradict each other, or as `Predictor.from_checkpoint`.
      MachineError: the checkpoint is damaged.
    """
    given = [prompt is not None, prompts_file is not None, interactive]
    if sum(given) != 1:
        raise UserError("give one of --prompt, --prompts_file and --interactive.")
    _check_needs("--temperature above 0", bool(temperature), top_k=top_k, top_p=top_p)
    _check_needs("--beams", beams is not None, length_penalty=length_penalty)
    config = Generation(
        max_new_tokens=max_new_tokens,
        sampling=Sampling(
            **_given(temperature=temperature, top_k=top_k, top_p=top_p),
        ),
        beams=None if beams is None else BeamSearch(beams, **_given(length_penalty=length_penalty)),
        num_samples=num_samples,
        stop=tuple(stop),
        seed=seed,
    )
    prompts = None if prompts_file is None else writing.read_prompts(prompts_file)
    compilation.use_cache(compilation_cache_dir)
    predictor = Predictor.from_checkpoint(
        checkpoint_path, cache_dir=cache_dir, partitioner=partitioner
    )
    if prompts is not None:
        writing.write_records(predictor, prompts, config)
    elif prompt is not None:
        writing.write_one(predictor, prompt, config)
    else:
        writing.converse(predictor, config)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check_needs(what: str, there: bool, **options: Any) -> None:
    if not there and (names := [f"--{name}" for name in _given(**options)]):
        verb = "means" if len(names) == 1 else "mean"
        raise UserError(f"{' and '.join(names)} {verb} nothing without {what}.")
