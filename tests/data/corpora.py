"""Small corpora for the tests of `data`: random documents, or examples, over a byte vocabulary."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from archobj_jax.objectives import AsGiven, Example
from tasks.pretraining import register_text_corpus

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def texts(count: int, seed: int = 0) -> list[str]:
    """Returns `count` documents of 5 to 59 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(5, 60))) for _ in range(count)]


def write_files(folder: Path, documents: Sequence[str], files: int) -> str:
    """Writes the documents to `files` JSON-lines files; returns their glob."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        lines = [json.dumps({"text": text}) for text in documents[index::files]]
        (folder / f"part-{index}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder / "part-*.jsonl")


def byte_vocabulary() -> seqio.ByteVocabulary:
    """Returns 259 ids and 100 sentinels."""
    return seqio.ByteVocabulary(extra_ids=100)


def register(
    name: str, folder: Path, *, documents: int = 60, files: int = 3, seed: int = 0
) -> dict[str, seqio.Task]:
    """Registers `<name>_full_lm` and the like over new files; returns the tasks by objective.

    The names are forgotten again by the fixture `registries`.
    """
    train = write_files(folder / name / "train", texts(documents, seed), files)
    held = write_files(folder / name / "held", texts(10, seed + 1), 1)
    tasks = register_text_corpus(name, train=train, validation=held, vocabulary=byte_vocabulary())
    return {task.name.removeprefix(f"{name}_"): task for task in tasks}


def register_steps(name: str, source: seqio.DataSource, steps: Sequence[object]) -> seqio.Task:
    """Registers a task over bytes with the given steps."""
    features = {"targets": seqio.Feature(byte_vocabulary(), add_eos=False)}
    return seqio.TaskRegistry.add(
        name, source=source, preprocessors=steps, output_features=features
    )


def examples(count: int, *, inputs: int = 40, targets: int = 12, seed: int = 0) -> list[Example]:
    """Returns `count` examples of 0 to `inputs` tokens of inputs and 1 to `targets` of targets."""
    rng = np.random.default_rng(seed)
    return [
        {
            "inputs": rng.integers(3, 48, rng.integers(0, inputs + 1), dtype=np.int32),
            "targets": rng.integers(3, 48, rng.integers(1, targets + 1), dtype=np.int32),
        }
        for _ in range(count)
    ]


def register_examples(
    name: str,
    made: Sequence[Example],
    *,
    steps: Sequence[object] = (seqio.CacheDatasetPlaceholder(), AsGiven()),
    vocabulary: seqio.Vocabulary | None = None,
) -> seqio.Task:
    """Registers a task whose splits "train" and "validation" are the examples `made`."""
    spec = {feature: tf.TensorSpec([None], tf.int32) for feature in ("inputs", "targets")}

    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_generator(lambda: iter(made), output_signature=spec)

    chosen = vocabulary or byte_vocabulary()
    return seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train", "validation"]),
        preprocessors=list(steps),
        output_features={feature: seqio.Feature(chosen, add_eos=False) for feature in spec},
    )
