"""`archobj score` and `archobj generate`."""

from archobj_jax.errors import UserError
from archobj_jax.evaluation.predictor import Predictor
from archobj_jax.evaluation.sampling import Sampling


def score(
    *, checkpoint_path: str, targets: str, inputs: str = "", cache_dir: str | None = None
) -> None:
    """Prints the log-likelihood of `targets` after `inputs`, by token and summed."""
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
    prompt: str,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    cache_dir: str | None = None,
) -> None:
    """Prints the prompt's continuation."""
    if max_new_tokens < 1:
        raise UserError(f"--max_new_tokens = {max_new_tokens}: must be at least 1.")
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    predictor = Predictor.from_checkpoint(checkpoint_path, cache_dir=cache_dir)
    (text,) = predictor.generate(
        [prompt], max_new_tokens=max_new_tokens, sampling=sampling, seed=seed
    )
    print(text)
