"""The collectives of a compiled module: what kind, along which mesh axes, how many bytes."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from archobj_jax.planning.hlo import Array, Computation, Instruction, Module

_MEGASCALE = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a step.

    Attributes:
      kind: of `KINDS`. An all-reduce of which each chip keeps its part, in one fusion, is the
        reduce-scatter that it is run as.
      axes: the mesh axes along which chips exchange.
      payload: bytes of the whole array that is reduced or gathered, a chip and a run: the result
        of an all-reduce, an all-gather, an all-to-all or a permute, the operand of a
        reduce-scatter.
      times: runs in a step.
      dtype: of the arrays; of the largest where there are several.
      group: places in the mesh (row by row) that exchange with the first of them; of a permute,
        its first source and target that differ.
      asynchronous: whether the chip's core has other work meanwhile.
      between_slices: whether it goes over the data-centre network; `group` is then empty.
      made_by: the operation of the program that it comes from, as the compiler names it.
    """

    kind: str
    axes: tuple[str, ...]
    payload: int
    times: float
    dtype: str
    group: tuple[int, ...]
    asynchronous: bool
    made_by: str
    between_slices: bool = False

    @property
    def bytes(self) -> float:
        """Payload a chip and a step."""
        return self.payload * self.times


def collectives(module: Module, mesh: Mapping[str, int]) -> list[Collective]:
    """All that `module` runs in a call.

    Args:
      module: what one slice runs; its partitions are numbered row by row over `mesh`.
      mesh: sizes of the mesh within a slice, by axis.
    """
    found = []
    for execution in module.executed():
        computation, times = execution.computation, execution.times
        for instruction in computation.instructions.values():
            if (
                transfer := _MEGASCALE.search(instruction.attributes)
            ) and instruction.opcode == "send":
                found.append(_between_slices(transfer[1], instruction, times))
            kind = instruction.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            arrays = _exchanged(kind, instruction, computation)
            if kind == "all-reduce" and execution.fused and _keeps_a_part(computation, instruction):
                kind = "reduce-scatter"
            group = _group(instruction, mesh)
            payload = sum(array.bytes for array in arrays)
            if payload and len(group) > 1:
                found.append(
                    Collective(
                        kind=kind,
                        axes=_axes(group, mesh),
                        payload=payload,
                        times=times,
                        dtype=max(arrays, key=lambda array: array.bytes).dtype,
                        group=group,
                        asynchronous=execution.hidden
                        or (
                            instruction.opcode.endswith("-start")
                            and computation.works_beside(instruction)
                        ),
                        made_by=_made_by(instruction),
                    )
                )
    return found


def _between_slices(transfer: str, instruction: Instruction, times: float) -> Collective:
    """What XLA hands to the runtime of several slices, as a `send` that says what it is part of."""
    sent = instruction.result[0]
    return Collective(
        kind=transfer.lower().replace("_", "-"),
        axes=("data",),
        payload=sent.bytes,
        times=times,
        dtype=sent.dtype,
        group=(),
        asynchronous=True,
        made_by=_made_by(instruction),
        between_slices=True,
    )


def _exchanged(kind: str, instruction: Instruction, computation: Computation) -> Sequence[Array]:
    """The whole arrays: operands of a reduction, else the results (of a start, less the rest)."""
    if kind in ("all-reduce", "reduce-scatter"):
        return [a for operand in computation.operands(instruction) for a in operand.result]
    if instruction.opcode.endswith("-start"):
        count = len(instruction.operands)
        return instruction.result[count : 2 * count]
    return instruction.result


def _keeps_a_part(computation: Computation, instruction: Instruction) -> bool:
    return computation.root.bytes < instruction.bytes


def _made_by(instruction: Instruction) -> str:
    name = re.search(r'op_name="([^"]*)"', instruction.attributes)
    return name[1] if name else ""


def _axes(group: Sequence[int], mesh: Mapping[str, int]) -> tuple[str, ...]:
    places = np.unravel_index(np.asarray(group), tuple(mesh.values()))
    return tuple(axis for axis, at in zip(mesh, places, strict=True) if len(set(at.tolist())) > 1)


def _group(instruction: Instruction, mesh: Mapping[str, int]) -> tuple[int, ...]:
    pairs = instruction.attribute("source_target_pairs")
    if pairs is not None:
        moved = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs) if a != b]
        return moved[0] if moved else ()
    groups = re.search(r"replica_groups=(.*?), [a-z_]+=", instruction.attributes)[1]  # type: ignore[index]
    return first_group(groups) or tuple(range(math.prod(mesh.values())))


def first_group(text: str) -> tuple[int, ...]:
    """The first of the groups of partitions that `replica_groups` gives, in any of its forms.

    They are `{{0,2},{1,3}}`; `[2,2]<=[4]T(1,0)`, an iota reshaped and transposed, a group a row;
    and `mesh['a'=2,'b'=2] {'a'}`, groups along axes of a mesh, or along a part of one,
    `'a':(2)4`, where 4 is the part's size and 2 that of what is before it. `{}` is one group of
    all, however many there are; it is returned as ().
    """
    if text.startswith("{"):
        first = re.match(r"\{\{([\d,]*)\}", text)
        return tuple(int(each) for each in first[1].split(",")) if first and first[1] else ()
    if text.startswith("mesh"):
        return _of_mesh(text)
    shape, iota, order = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()  # type: ignore[union-attr]
    ids = np.arange(np.prod(_numbers(iota))).reshape(_numbers(iota))
    if order:
        ids = ids.transpose(_numbers(order))
    return tuple(ids.reshape(_numbers(shape))[0].tolist())


def _of_mesh(text: str) -> tuple[int, ...]:
    shape, along = re.match(r"mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text).groups()  # type: ignore[union-attr]
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", shape)}
    ids = np.arange(np.prod(list(sizes.values()))).reshape(tuple(sizes.values()))
    taken = [slice(0, 1)] * len(sizes)
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", along):
        whole = sizes[name]
        step = whole // (int(before) * int(size)) if size else 1
        taken[list(sizes).index(name)] = slice(0, step * int(size) if size else whole, step)
    return tuple(ids[tuple(taken)].flatten().tolist())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))
