"""What is read of other programs: all that they say, within bounds."""

import time
from pathlib import Path

from launch.programs import SILENT, Programs


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path):
    script = f"echo half; sleep 600 & echo $! >{tmp_path}/pid; wait"
    begun = time.monotonic()
    stuck, quick = Programs(answer=2).ask_all([["bash", "-c", script], ["echo", "whole"]])
    assert time.monotonic() - begun < 60
    assert (stuck.status, stuck.output) == (SILENT, "half\n")
    assert stuck.reason() == "not done within 2 seconds: killed"
    assert (quick.status, quick.output) == (0, "whole\n")
    assert not running((tmp_path / "pid").read_text().strip())


def test_all_that_programs_say_is_read_though_another_is_waited_for():
    answers = Programs(answer=60).ask_all([["sleep", "1"], ["head", "-c", "1000000", "/dev/zero"]])
    assert [len(answer.output) for answer in answers] == [0, 1_000_000]


def running(pid: str) -> bool:
    """Whether the process is there, and is not one that only waits to be buried."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
