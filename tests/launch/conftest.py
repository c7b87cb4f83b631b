"""A cloud of folders: `gcloud` and the hosts' programs are fakes, ssh and shells are real."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.commit import ROOT
from launch.programs import Programs

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cloud:
    """The folder of a fake program, and a repository that hosts can fetch."""

    folder: Path
    repository: Path
    commit: str

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def creates(self, *histories: str) -> None:
        """The states that queued resources to come will have."""
        self.write("creations", "\n".join(histories))

    def calls(self, *words: str) -> list[str]:
        """The calls that contain all words."""
        calls = [" ".join(call) for call in self.argument_lists()]
        return [call for call in calls if all(word in call for word in words)]

    def argument_lists(self) -> list[list[str]]:
        path = self.folder / "calls"
        data = path.read_bytes().decode() if path.exists() else ""
        return [call.split("\0") for call in data.split("\0\0")[:-1]]

    def arguments(self, host: str) -> list[str]:
        """What `archobj` was given on a host."""
        data = (self.folder / "hosts" / host / "arguments").read_bytes()
        return data.decode().split("\0")[:-1]

    @property
    def source(self) -> list[str]:
        """Flags that have the hosts fetch from here."""
        return [f"--repository={self.repository}", f"--commit={self.commit}"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository with the scripts of launch/worker, and its commit."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "launch/worker", folder / "launch/worker")
    (folder / "requirements.lock").write_text("jax==0\n")
    (folder / "pyproject.toml").write_text("")
    return folder, committed(folder)


def install(program: Path, target: Path) -> None:
    """Makes a program of a Python file, which starts in a hundredth of a second."""
    target.write_text(f"#!{os.path.realpath(sys.executable)} -SE\n{program.read_text()}")
    target.chmod(0o755)


def committed(folder: Path) -> str:
    """Makes the folder a repository with one commit; returns its name."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


@pytest.fixture
def cloud(
    tmp_path: Path, repository: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    folder = tmp_path / "cloud"
    for name in ("resources", "vms", "hosts", "host_bin", "bin"):
        (folder / name).mkdir(parents=True)
    install(HERE / "fake_gcloud.py", folder / "bin/gcloud")
    for name in ("hostname", "uv"):
        shutil.copy(HERE / "fake_host.sh", folder / "host_bin" / name)
        (folder / "host_bin" / name).chmod(0o755)
    monkeypatch.setenv("FAKE_CLOUD", str(folder))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield Cloud(folder, *repository)
    for pid in folder.glob("hosts/*/pid.*"):
        if Path(f"/proc/{pid.suffix[1:]}").exists():
            os.kill(int(pid.suffix[1:]), signal.SIGTERM)


def hurried(answer: float = 300) -> Programs:
    """Programs that wait for an instant only, by a clock that shows the whole wait."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        time.sleep(0.02)

    return Programs(answer=answer, sleep=sleep, clock=lambda: now[0])
