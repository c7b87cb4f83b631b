"""Answer choices that share their prompt against each (prompt, choice) pair by itself.

    python -m benchmarks.rank_scoring

Scores questions of 4 choices with 1 to 8 tokens at prompts of 128, 512 and 1,024 tokens, both ways,
with the same compiled code and about as many tokens a batch; for a causal decoder and an
encoder-decoder. The last line is one JSON object: examples and tokens (of prompts and choices, each
counted once for each question) a second, and the ratio of times, the median over repetitions.
"""

import json
import statistics
import time

import jax
import numpy as np

from archobj_jax.architectures.architecture import CausalDecoder, EncoderDecoder
from archobj_jax.inference.questions import Question
from archobj_jax.inference.scoring import Scoring
from archobj_jax.training.state import Blueprint
from benchmarks.small_models import DESCRIPTION, NETWORK, on_one_device

CHOICES = 4
PROMPTS = (128, 512, 1024)
QUESTIONS = 8
BATCH_TOKENS = 4608
REPETITIONS = 3


def questions(length: int) -> list[Question]:
    """Prompts of `length` tokens, each with choices of 1 to 8 tokens."""
    rng = np.random.default_rng(length)

    def tokens(size: int) -> np.ndarray:
        return rng.integers(2, NETWORK.vocab_size, size).astype(np.int32)

    return [
        Question(tokens(length), tuple(tokens(size) for size in rng.integers(1, 9, CHOICES)))
        for _ in range(QUESTIONS)
    ]


def main() -> None:
    """Measures and prints."""
    figures = []
    for architecture in (CausalDecoder(NETWORK), EncoderDecoder(NETWORK)):
        blueprint, params = on_one_device(architecture)
        for length in PROMPTS:
            shared = questions(length)
            pairs = [Question(q.inputs, (choice,)) for q in shared for choice in q.choices]
            figures.append(_measured(blueprint, params, shared, pairs, length))
            print(json.dumps(figures[-1]))
    print(
        json.dumps(
            {
                "benchmark": "rank_scoring",
                "what": f"{CHOICES} choices that share a prompt, against one pair at a time",
                "on": f"{jax.device_count()} {jax.devices()[0].device_kind}",
                "network": DESCRIPTION,
                "figures": figures,
                "ratio": {f"{f['architecture']} {f['prompt']}": f["ratio"] for f in figures},
            }
        )
    )


def _measured(
    blueprint: Blueprint,
    params: dict,
    shared: list[Question],
    pairs: list[Question],
    length: int,
) -> dict:
    once, apart = (
        Scoring.of(blueprint, asked, batch_tokens=BATCH_TOKENS) for asked in (shared, pairs)
    )
    together, separate = _scores(once, params), _scores(apart, params)  # compiles both
    difference = np.abs(np.array(together) - np.array(separate)).max()
    times = [(_seconds(once, params), _seconds(apart, params)) for _ in range(REPETITIONS)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    tokens = sum(q.inputs.size + sum(c.size for c in q.choices) for q in shared)
    return {
        "architecture": blueprint.architecture.symbol,
        "prompt": length,
        "examples_per_second": round(len(shared) / fast, 2),
        "tokens_per_second": round(tokens / fast),
        "separate_examples_per_second": round(len(shared) / slow, 2),
        "ratio": round(statistics.median(b / a for a, b in times), 2),
        "largest_difference_nats": float(difference),
    }


def _scores(scoring: Scoring, params: dict) -> list[float]:
    made = scoring.collect([scoring.score(params, batch) for batch in scoring.batches])
    return [score.total for scores in made for score in scores]


def _seconds(scoring: Scoring, params: dict) -> float:
    start = time.perf_counter()
    for batch in scoring.batches:
        scoring.score(params, batch)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
