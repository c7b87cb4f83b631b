"""The sizes of TPU slices: Cloud TPU's accelerator types, and their shapes in chips."""

import dataclasses
import math
import re
from collections.abc import Mapping

from archobj_jax.errors import UserError

_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_TYPE = re.compile(r"([a-z0-9]+)-(\d+)")


@dataclasses.dataclass(frozen=True)
class _Generation:
    """What the number of an accelerator type counts, and which numbers there are.

    Attributes:
      prefix: of names of topologies.
      per_chip: what is counted, cores or chips, of a chip.
      shapes: of the usual slices.
      more_by: larger slices are multiples of so many chips; 0 if there are none.
    """

    prefix: str
    per_chip: int
    shapes: tuple[str, ...]
    more_by: int = 0


_GENERATIONS: Mapping[str, _Generation] = {
    "v4": _Generation("v4", 2, _3D, 64),
    "v5p": _Generation("v5p", 2, _3D, 64),
    "v5litepod": _Generation("v5e", 1, _2D),
    "v5e": _Generation("v5e", 1, _2D),
    "v6e": _Generation("v6e", 1, _2D),
}
"""By what stands before the `-` of an accelerator type; v5e is what people say for v5litepod.

Source: docs.cloud.google.com/tpu/docs/v4, v5p, v5e and v6e (a v4 or v5p slice of 4x4x4 or more is
made of cubes of 64 chips).
"""


def topology_of_type(name: str) -> str | None:
    """The topology of an accelerator type: "v4:4x4x4" of "v4-128".

    Returns:
      None if `name` is not like an accelerator type, or has no usual shape.
    """
    generation, number = _split(name)
    if generation is None:
        return None
    for shape in generation.shapes:
        if _chips(shape) * generation.per_chip == number:
            return f"{generation.prefix}:{shape}"
    return None


def usual_topologies() -> list[str]:
    """Names of topologies, of every generation."""
    each = {g.prefix: g.shapes for g in _GENERATIONS.values()}
    return [f"{prefix}:{shape}" for prefix, shapes in each.items() for shape in shapes]


def _types() -> list[str]:
    return [
        f"{word}-{_chips(shape) * generation.per_chip}"
        for word, generation in _GENERATIONS.items()
        for shape in generation.shapes
    ]


def check_type(flag: str, name: str) -> None:
    """Checks that a slice of an accelerator type can exist; other generations are let pass.

    Raises:
      UserError: there is no slice of that size, and the message names the nearest; or neither
        gcloud nor xpk know the generation by that word.
    """
    if ":" in name:
        types = [each for each in _types() if topology_of_type(each) == name]
        raise UserError(
            f"--{flag}={name}: expected an accelerator type{f', {types[0]}' if types else ''}."
        )
    generation, number = _split(name)
    if generation is None:
        return
    if name.startswith("v5e-"):
        raise UserError(
            f"--{flag}={name}: this type is called v5litepod-{number} by gcloud and xpk."
        )
    chips, rest = divmod(number, generation.per_chip)
    usual = [_chips(shape) for shape in generation.shapes]
    cube = generation.more_by
    if not rest and (chips in usual or (cube and chips and chips % cube == 0)):
        return
    sizes = set(usual)
    if cube:
        sizes |= {max(1, chips // cube) * cube, (chips // cube + 1) * cube}
    below = max((size for size in sizes if size <= chips), default=min(sizes))
    above = min((size for size in sizes if size > chips), default=max(sizes))
    word = name.partition("-")[0]
    nearest = dict.fromkeys(f"{word}-{size * generation.per_chip}" for size in (below, above))
    counted = "TensorCores, two a chip" if generation.per_chip == 2 else "chips"
    raise UserError(
        f"--{flag}={name}: there is no such slice (the number is of {counted}). The nearest: "
        f"{' and '.join(nearest)}."
    )


def _chips(shape: str) -> int:
    return math.prod(map(int, shape.split("x")))


def _split(name: str) -> tuple[_Generation | None, int]:
    match = _TYPE.fullmatch(name)
    if match is None:
        return None, 0
    return _GENERATIONS.get(match[1]), int(match[2])
