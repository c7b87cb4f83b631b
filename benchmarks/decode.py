"""The time of a token, by how long texts may become and by how long they are.

    python -m benchmarks.decode

Greedy decoding of 8 prompts of 32 tokens, with a causal decoder and an encoder-decoder. Asks for
texts of 128, 512 and 2,048 tokens at most and takes the first 97: once with the cache as it grows,
once with all of it from the start, as decoders of fixed shapes have it. Then the time of a token at
growing lengths, and against reading the whole text again for each token. The last line is one JSON
object; ratios are medians over repetitions of times in this process, of a step that makes a token
of all prompts.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Iterator

import jax
import numpy as np

from archobj_jax.architectures.architecture import Architecture, CausalDecoder, EncoderDecoder
from archobj_jax.inference import token_loop
from archobj_jax.inference.questions import Question
from archobj_jax.inference.sampling import Sampling
from archobj_jax.inference.scoring import Scoring
from archobj_jax.inference.strategies import Trace
from archobj_jax.inference.token_loop import TokenLoop
from archobj_jax.training.state import Blueprint
from benchmarks.small_models import DESCRIPTION, NETWORK, on_one_device

ROWS, PROMPT = 8, 32
ALLOWED = (128, 512, 2048)
TAKEN = 97
LENGTHS = ((17, 49), (129, 193), (257, 321), (449, 497), (897, 945))
REPETITIONS = 7


def main() -> None:
    """Measures and prints."""
    figures = [_measured(architecture(NETWORK)) for architecture in (CausalDecoder, EncoderDecoder)]
    print(
        json.dumps(
            {
                "benchmark": "decode",
                "what": f"greedy decoding of {ROWS} prompts of {PROMPT} tokens",
                "on": f"{jax.device_count()} {jax.devices()[0].device_kind}",
                "network": DESCRIPTION,
                "figures": figures,
                "ratio": {f["architecture"]: f["fixed_over_growing"] for f in figures},
            }
        )
    )


def _measured(architecture: Architecture) -> dict:
    blueprint, params = on_one_device(architecture)
    # No token ends a text here.
    loop = TokenLoop(blueprint, Sampling(), 1, eos_id=NETWORK.vocab_size)
    growing: dict[int, list[float]] = {allowed: [] for allowed in ALLOWED}
    fixed: dict[int, list[float]] = {allowed: [] for allowed in ALLOWED}
    for repetition in range(REPETITIONS + 1):  # the first compiles
        for seconds in (growing, fixed):
            for allowed in ALLOWED:
                with _first_room(allowed if seconds is fixed else token_loop.FIRST_ROOM):
                    times = _times(loop, params, allowed, TAKEN)
                if repetition:
                    seconds[allowed].append((times[TAKEN] - times[1]) / (TAKEN - 1))
    again = _reading_again(blueprint, params)
    token = {allowed: statistics.median(growing[allowed]) for allowed in ALLOWED}
    figure = {
        "architecture": architecture.symbol,
        "tokens_per_second": {a: round(ROWS / token[a]) for a in ALLOWED},
        "milliseconds_a_step": {a: round(1000 * token[a], 2) for a in ALLOWED},
        "2048_over_128": round(_ratio(growing[2048], growing[128]), 2),
        "fixed_over_growing": {a: round(_ratio(fixed[a], growing[a]), 2) for a in ALLOWED},
        "reading_again_over_growing": round(again / token[ALLOWED[0]], 2),
        "milliseconds_by_length": _by_length(loop, params),
    }
    print(json.dumps(figure), flush=True)
    return figure


def _ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


@contextlib.contextmanager
def _first_room(tokens: int) -> Iterator[None]:
    before, token_loop.FIRST_ROOM = token_loop.FIRST_ROOM, tokens
    try:
        yield
    finally:
        token_loop.FIRST_ROOM = before


def _times(loop: TokenLoop, params: dict, allowed: int, taken: int) -> dict[int, float]:
    """When so many tokens were made, in seconds, until `taken` were."""
    batch = _prompts(loop.blueprint)
    batch |= {
        "limits": np.full(ROWS, allowed, np.int32),
        "numbers": np.arange(ROWS, dtype=np.int32),
    }
    times = {}

    def look(trace: Trace) -> np.ndarray:
        times[len(trace)] = time.perf_counter()
        return np.full(ROWS, len(trace) >= taken)

    loop.run(params, batch, seed=0, look=look)
    return times


def _by_length(loop: TokenLoop, params: dict) -> dict[int, float]:
    """Milliseconds of a step at some lengths of the text."""
    last = LENGTHS[-1][1]
    _times(loop, params, last, last)  # compiles
    runs = [_times(loop, params, last, last) for _ in range(REPETITIONS // 2)]
    return {
        (start + end) // 2: round(
            1000 * statistics.median((run[end] - run[start]) / (end - start) for run in runs), 2
        )
        for start, end in LENGTHS
    }


def _prompts(blueprint: Blueprint) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    one = np.ones(1, np.int32)
    rows = [
        blueprint.architecture.layout.row(
            [{"inputs": rng.integers(2, 8000, PROMPT).astype(np.int32), "targets": one}],
            {"inputs": PROMPT, "targets": 1},
        )
        for _ in range(ROWS)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _reading_again(blueprint: Blueprint, params: dict) -> float:
    """Seconds to read the prompts and half of the taken tokens once more, for one new token."""
    rng = np.random.default_rng(1)
    texts = rng.integers(2, 8000, (ROWS, PROMPT + TAKEN // 2)).astype(np.int32)
    questions = [Question(text[:PROMPT], (text[PROMPT:],)) for text in texts]
    scoring = Scoring.of(blueprint, questions, batch_tokens=ROWS * 256)
    seconds = []
    for _ in range(REPETITIONS + 1):
        start = time.perf_counter()
        for batch in scoring.batches:
            scoring.score(params, batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
