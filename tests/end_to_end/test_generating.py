"""`archobj generate` from a trained checkpoint, on one device and on a mesh over processes."""

import json
from pathlib import Path

import pytest

from archobj_jax import cli
from tests.end_to_end import several

PROMPTS = ("the sun", "a", "mercury and venus are")


def arguments(checkpoint: Path, folder: Path, *flags: str) -> list[str]:
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return [
        "generate",
        f"--gin.CHECKPOINT_PATH={checkpoint}",
        "--gin.commands.generate.compilation_cache_dir=None",
        f"--prompts_file={folder}/prompts.txt",
        "--max_new_tokens=24",
        *flags,
    ]


def records(printed: str) -> list[dict]:
    # The processes' transport says on standard output that it is connected.
    return [json.loads(line) for line in printed.splitlines() if not line.startswith("[Gloo]")]


def test_two_processes_write_what_one_device_writes(undisturbed: Path, tmp_path: Path, capsys):
    flags = ("--beams=3", "--num_samples=2")
    assert cli.main(arguments(undisturbed, tmp_path, *flags)) == 0
    expected = records(capsys.readouterr().out)
    assert [record["prompt"] for record in expected if record["sample"] == 0] == [*PROMPTS]
    mesh = ("--gin.PARTITIONER=@partitioner.Partitioner()", "--gin.partitioner.Partitioner.fsdp=4")
    codes, printed = several.ended(several.start(arguments(undisturbed, tmp_path, *flags, *mesh)))
    assert codes == [0, 0], printed
    found = records(printed[0][0])
    assert records(printed[1][0]) == []
    for mine, theirs in zip(found, expected, strict=True):
        likely = theirs["log_likelihood"]
        assert mine["log_likelihood"] == pytest.approx(likely, abs=1e-3)
        assert mine["text"] == theirs["text"]
