"""Arguments as text that a shell elsewhere reads back exactly."""

import re
import shlex
from collections.abc import Sequence

_PLAIN = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+")


def for_ssh(command: Sequence[str]) -> str:
    """One string for a POSIX shell: ssh has the login shell of the other machine read it."""
    return shlex.join(command)


def for_manifest(command: Sequence[str]) -> str:
    """One line of printable ASCII for bash in a Kubernetes manifest.

    xpk puts the command into a YAML block as it stands, where a newline would end the block, and
    Kubernetes replaces `$(NAME)` and `$$` in it; so these are written as bytes in `$'…'`.
    """
    return " ".join(map(_ansi_c, command))


def _ansi_c(argument: str) -> str:
    data = argument.encode(errors="surrogateescape")
    if _PLAIN.fullmatch(data):
        return argument
    special = b"\\'$"
    text = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in special else f"\\x{byte:02x}" for byte in data
    )
    return f"$'{text}'"
