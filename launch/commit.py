"""The commit that all workers are set up at: one that they can fetch, and no local changes."""

import re
import subprocess
from pathlib import Path

from archobj_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


_LOCAL = re.compile(r"/|\.|~|file:|[^:/]+(/|$)")
"""Addresses of repositories that are folders."""


def pinned(commit: str | None, *, pushed: bool, root: Path = ROOT) -> str:
    """Returns the full name of `commit`, or of HEAD.

    Args:
        commit: anything git knows, or 40 hexadecimal digits; None for HEAD, and then local changes
            are refused, which would silently not run.
        pushed: whether a remote must have it, as far as this clone knows.
        root: the clone.

    Raises:
        UserError: there are local changes, or no such commit, or no remote has it.
    """
    if commit is None:
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
        if changes:
            first = changes.splitlines()[0][3:]
            raise UserError(
                f"{first} has changes that are not committed, which the workers would not have: "
                "commit them, or name what to run with --commit=HEAD."
            )
    named = commit or "HEAD"
    found = _git(
        root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{named}^{{commit}}"
    )
    if not found:
        if re.fullmatch("[0-9a-f]{40}", named):
            return named  # of the remote, not fetched here
        raise UserError(f"--commit={named}: git knows no such commit.")
    if pushed and not _git(root, "branch", "--remotes", "--contains", found):
        raise UserError(
            f"no remote branch has the commit {found[:12]}, so that the workers cannot fetch it: "
            "git push first (or git fetch, if it is there), or name another with --commit."
        )
    return found


def origin(root: Path = ROOT) -> str:
    """Returns the address that workers fetch from: this clone's `origin`, by https if by ssh.

    Raises:
        UserError: there is no `origin`, or it is a folder.
    """
    url = _git(root, "remote", "get-url", "origin")
    if not url:
        raise UserError("this clone has no remote 'origin': give --repository=https://…")
    if _LOCAL.match(url):
        raise UserError(
            f"this clone's remote 'origin' is {url}, a folder of this machine, which workers "
            "cannot fetch from: give --repository=https://…"
        )
    return re.sub(r"^(ssh://)?git@([^:/]+)[:/]", r"https://\2/", url)


def files_at(commit: str, root: Path = ROOT) -> list[str]:
    """Paths of the files of a commit; none if this clone does not have it."""
    return _git(root, "ls-tree", "-r", "--name-only", "--full-tree", commit).splitlines()


def _git(root: Path, *arguments: str) -> str:
    """What git prints, without the last newline; nothing if it fails."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
