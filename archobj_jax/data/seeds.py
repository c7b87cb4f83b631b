"""Seeds for the parts of a run's data, so that no two of them draw alike."""

import hashlib


def named(seed: int, name: str) -> int:
    """Returns a seed of 63 bits for `name` under `seed`."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
