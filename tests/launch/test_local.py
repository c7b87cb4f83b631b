"""`launch/local`: real processes, which are the hosts of one run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import archobj_jax
from launch.commit import ROOT
from tests.launch.nasty import ARGUMENTS

SHOW = """
import os, sys
print(os.environ["JAX_PROCESS_ID"], os.environ["JAX_NUM_PROCESSES"], sys.argv[1:] == eval(
    os.environ["EXPECTED"]), os.environ["XLA_FLAGS"], flush=True)
"""
PYTHON = [sys.executable, "-S"]


def local(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, ROOT / "launch/local", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_every_process_gets_the_arguments_and_its_own_place():
    flags = ["--processes=3", "--devices=2", "--", *PYTHON, "-c", SHOW, *ARGUMENTS]
    process = local(*flags, EXPECTED=repr(ARGUMENTS), XLA_FLAGS="--xla_x=1")
    status, output, errors = ended(process)
    assert status == 0
    flags = "--xla_x=1 --xla_force_host_platform_device_count=2"
    assert output == f"0 3 True {flags}\n"  # the first one's, as it is
    assert f"[1] 1 3 True {flags}\n" in errors
    assert f"[2] 2 3 True {flags}\n" in errors


def by_index(*programs: str) -> list[str]:
    program = f"import os, time; exec({list(programs)!r}[int(os.environ['JAX_PROCESS_ID'])])"
    return [f"--processes={len(programs)}", "--", *PYTHON, "-c", program]


def test_the_status_speaks_for_all():
    assert ended(local(*by_index("os._exit(0)", "os._exit(75)")))[0] == 75
    assert ended(local(*by_index("os._exit(75)", "os._exit(2)")))[0] == 2
    killed = "os.kill(os.getpid(), 9)"
    status, _, errors = ended(local(*by_index(killed, "os._exit(74)")))
    assert status == 137
    assert "process 0 was ended by SIGKILL" in errors


def test_when_one_fails_the_others_end_within_the_grace():
    began = time.monotonic()
    status, _, errors = ended(local("--grace=0.2", *by_index("time.sleep(60)", "os._exit(2)")))
    assert status == 2
    assert "kills process 0: another has failed 0.2 seconds ago" in errors
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_are_told_to_save_and_stop(tmp_path: Path, number):
    program = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(75)); "
        f"open({str(tmp_path)!r} + '/' + os.environ['JAX_PROCESS_ID'], 'w'); time.sleep(60)"
    )
    process = local(*by_index(program, program))
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert ended(process)[0] == 75


def test_the_second_signal_kills(tmp_path: Path):
    program = (
        "import signal; signal.signal(15, lambda *_: open(told, 'w')); "
        f"told = {str(tmp_path)!r} + '/' + os.environ['JAX_PROCESS_ID']; open(told + 'r', 'w')\n"
        "while True: time.sleep(60)"
    )
    process = local(*by_index(program, program))
    for count in (2, 4):
        while len(list(tmp_path.iterdir())) < count:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 137


def test_archobj_is_found_in_path():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = local("--processes=2", "--", "archobj", "--version", PATH=path)
    assert ended(process)[:2] == (0, f"{archobj_jax.__version__}\n")


def test_dry_run_prints_a_command_for_each_process():
    status, output, _ = ended(local("--dry_run", "--", "echo", "a b"))
    first, second = output.splitlines()
    assert status == 0
    assert first.startswith("+ env JAX_COORDINATOR_ADDRESS=127.0.0.1:")
    assert "JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=1 " in second
    assert second.endswith("echo 'a b'")
