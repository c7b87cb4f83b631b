"""What a command does not need it does not import: SeqIO brings TensorFlow, which takes seconds."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from archobj_jax.architectures.architecture import CausalDecoder
from archobj_jax.data.pieces import Pieces
from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.lineage import Stage
from archobj_jax.training.state import TrainState
from tests import sentences, tiny

_ROOT = Path(__file__).parents[1]
_PROGRAM = """
import contextlib, io, json, sys
from archobj_jax.cli import main

def told(arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = main(arguments)
    heavy = sorted({"jax", "seqio", "tensorflow"} & set(sys.modules))
    return [status, out.getvalue(), err.getvalue(), heavy]

print(json.dumps([told(arguments) for arguments in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has a checkpoint, whose vocabulary is a SentencePiece file."""
    folder = tmp_path_factory.mktemp("run")
    file = folder / "some.model"
    file.write_bytes(sentences.model())
    model = CausalDecoder(tiny.network(vocab_size=384))
    about = {
        "config": "",
        "lineage": [
            dataclasses.asdict(
                Stage(str(folder), "pretrain", "CD", "FLM", "c0ffee", "da7a", step=3)
            )
        ],
        "model": {
            "architecture": "CausalDecoder",
            "network": dataclasses.asdict(model.network),
            "mixture_or_task_name": "forgotten",
            "mixture_or_task_module": None,
            "cache_dir": str(folder),
            "vocabulary": {
                "title": "some.model",
                "fingerprint": Pieces(file.read_bytes(), 10).fingerprint,
                "file": str(file),
                "extra_ids": 10,
            },
        },
    }
    with Checkpoints(str(folder), SaveCheckpointConfig()) as checkpoints:
        checkpoints.save(TrainState(jnp.int32(3), tiny.parameters(model), {}), about)
    return folder


def told(*commands: list[str]) -> list[Any]:
    """Exit status, output, errors, and what is imported, after each command; all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(commands)],
        cwd=_ROOT, capture_output=True, text=True, check=True, timeout=300,
        env=os.environ | {"XLA_FLAGS": ""},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_the_use_of_a_checkpoint_needs_no_tensorflow(run: Path):
    checkpoint = f"--gin.CHECKPOINT_PATH={run}"
    generate = ["generate", checkpoint, "--gin.generate.compilation_cache_dir=None"]
    written, scored, stages = told(
        [*generate, "--prompt=the sum", "--max_new_tokens=1"],
        ["score", checkpoint, "--inputs=the sum", "--targets=of 3"],
        ["lineage", str(run)],
    )
    for status, _, errors, imported in (written, scored, stages):
        assert (status, imported) == (0, ["jax"]), errors
    assert "in all, " in scored[1]
    assert stages[1].startswith("CD:FLM")


def test_mistakes_in_flags_are_told_without_tensorflow(run: Path):
    checkpoint = f"--gin.CHECKPOINT_PATH={run}"
    generate = ["generate", checkpoint, "--prompt=the sum"]
    mistakes = {
        "beams and sampling exclude each other": [*generate, "--beams=4", "--temperature=1"],
        "--top_k means nothing without": [*generate, "--top_k=3"],
        "NUM_EXAMPLES = 0: must be": ["evaluate", checkpoint, "--gin.NUM_EXAMPLES=0"],
        "there is nothing to evaluate": ["evaluate", checkpoint],
        "CHECKPOINT_PATH is required": ["evaluate", "--gin.MIXTURE_OR_TASK_NAME=any"],
        "nowhere does not exist": [
            "evaluate", "--gin.CHECKPOINT_PATH=nowhere", "--gin.MIXTURE_OR_TASK_NAME=any",
        ],
    }  # fmt: skip
    for expected, (status, _, errors, imported) in zip(
        mistakes, told(*mistakes.values()), strict=True
    ):
        assert status == 2
        assert expected in errors
        assert imported == ["jax"]


def test_misspelt_macros_and_comparisons_need_not_even_jax():
    tiny_run = "--gin_file=t5x_configs/experiments/tiny/cd_flm.gin"
    misspelt, compared = told(
        ["train", tiny_run, "--gin.TRAIN_STEP=3"], ["evaluate", "--compare", "nowhere", "nowhere"]
    )
    assert "Did you mean 'TRAIN_STEPS'" in misspelt[2]
    assert "nowhere does not exist" in compared[2]
    for status, _, _, imported in (misspelt, compared):
        assert (status, imported) == (2, [])
