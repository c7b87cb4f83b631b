"""The commit that workers are set up at: one that they can fetch, and no local changes."""

import subprocess
from pathlib import Path

import pytest

from archobj_jax.errors import UserError
from launch.commit import files_at, origin, pinned
from tests.launch.conftest import committed


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("one\n")
    committed(source)
    subprocess.run(["git", "clone", "-q", source, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


def test_head_if_it_is_pushed_and_nothing_is_changed(clone):
    head = pinned(None, pushed=True, root=clone)
    assert len(head) == 40
    (clone / "untracked").write_text("")
    assert pinned(None, pushed=True, root=clone) == head
    assert pinned("main", pushed=True, root=clone) == head
    assert pinned(head[:8], pushed=True, root=clone) == head


def test_changes_are_refused_unless_a_commit_is_named(clone):
    (clone / "a.py").write_text("two\n")
    with pytest.raises(UserError, match=r"a\.py has changes that are not committed"):
        pinned(None, pushed=True, root=clone)
    assert len(pinned("HEAD", pushed=True, root=clone)) == 40


def test_a_commit_that_no_remote_has_is_refused(clone):
    (clone / "b.py").write_text("two\n")
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "two"], check=True)
    with pytest.raises(UserError, match=r"no remote branch has the commit .* git push first"):
        pinned(None, pushed=True, root=clone)
    assert len(pinned(None, pushed=False, root=clone)) == 40


def test_names_that_git_does_not_know(clone):
    with pytest.raises(UserError, match="--commit=--all: git knows no such commit"):
        pinned("--all", pushed=True, root=clone)
    assert pinned("a" * 40, pushed=True, root=clone) == "a" * 40  # the remote's, perhaps


def test_workers_fetch_by_https(clone):
    def moved(url: str) -> str:
        subprocess.run(["git", "-C", clone, "remote", "set-url", "origin", url], check=True)
        return origin(clone)

    expected = "https://example.com/group/archobj.git"
    assert moved("git@example.com:group/archobj.git") == expected
    assert moved("ssh://git@example.com/group/archobj.git") == expected
    assert moved(expected) == expected
    subprocess.run(["git", "-C", clone, "remote", "remove", "origin"], check=True)
    with pytest.raises(UserError, match="no remote 'origin': give --repository"):
        origin(clone)


@pytest.mark.parametrize(
    "url", ["/srv/archobj", "../archobj", "archobj.git", "file:///srv/archobj"]
)
def test_a_folder_of_this_machine_is_nothing_that_workers_can_fetch_from(clone, url):
    subprocess.run(["git", "-C", clone, "remote", "set-url", "origin", url], check=True)
    with pytest.raises(UserError, match=r"a folder of this machine.* give --repository"):
        origin(clone)


def test_the_files_of_a_commit(clone):
    assert files_at("HEAD", root=clone) == ["a.py"]
    assert files_at("a" * 40, root=clone) == []
