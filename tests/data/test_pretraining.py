"""The tasks that come with the stack, and those that a user's module registers."""

import subprocess
import sys

import numpy as np
import seqio

from archobj_jax.data import loader, parts, registry
from archobj_jax.objectives import DecoderLayout, FullLm, PrefixLm, SpanCorruption
from tests.data.corpora import register


def test_names_that_t5x_users_know_are_registered():
    for corpus in ("embedded", "c4_v220"):
        for name, kind in (
            ("full_lm", FullLm), ("prefix_lm", PrefixLm), ("span_corruption", SpanCorruption)
        ):  # fmt: skip
            task = registry.find(f"{corpus}_{name}")
            assert isinstance(registry.objective(task), kind)
            assert list(task.splits) == ["train", "validation"]


def test_registering_reads_nothing(tmp_path):
    code = (
        "import tasks.pretraining\n"
        "from archobj_jax.data import embedded\n"
        "assert embedded._corpus.cache_info().misses == 0\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"},
    )
    assert not list(tmp_path.iterdir())


def test_seqio_reads_the_tasks_too(tmp_path):
    """What SeqIO makes of a task holds the tokens that the loader's cache holds."""
    task = register("news", tmp_path)["full_lm"]
    lengths = {"targets": 32}
    dataset = task.get_dataset(sequence_length=lengths, split="train", shuffle=False)
    ours = loader.DatasetConfig("news_full_lm", lengths, "train", 1, cache_dir=str(tmp_path / "c"))
    (component,) = parts.components(ours, DecoderLayout())
    tokens = np.concatenate([row["targets"] for row in dataset.as_numpy_iterator()])
    total = component.opened.manifest.tokens + component.opened.manifest.documents
    assert len(tokens) == total // 32 * 32


def test_a_mixture_takes_tasks_of_one_objective(tmp_path):
    register("news", tmp_path)
    register("tales", tmp_path, seed=1)
    mixture = seqio.MixtureRegistry.add("both", [("news_full_lm", 1.0), ("tales_full_lm", 3.0)])
    rates = registry.tasks(mixture, "train")
    assert {task.name: rate for task, rate in rates.items()} == {
        "news_full_lm": 0.25,
        "tales_full_lm": 0.75,
    }
