"""Reads what gin prints of a configuration; needs no gin."""

import re
from collections.abc import Iterable


def bindings(config: str) -> dict[str, str]:
    """Values by name of an operative configuration, which has continuation lines indented."""
    found: dict[str, str] = {}
    name = ""
    for line in config.splitlines():
        if line.startswith(" ") and name:
            found[name] += line.strip()
        elif "=" in line and not line.startswith("#"):
            name, _, value = (part.strip() for part in line.partition("="))
            found[name] = value.rstrip("\\")
    return found


def without(config: str, names: Iterable[str]) -> str:
    """A configuration without the bindings of some macros or parameters."""
    return re.sub(
        rf"^({'|'.join(map(re.escape, names))}) =.*\n(?:[ \t]+.*\n)*", "", config, flags=re.M
    )
