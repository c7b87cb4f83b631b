"""The work of a compiled module: operations of its matrix products, and bytes over HBM.

XLA's own cost analysis counts the body of a loop once; here it counts as often as it runs.
"""

import dataclasses
import itertools
import math
import re

from archobj_jax.planning.collectives import KINDS
from archobj_jax.planning.hlo import Array, Computation, Instruction, Module

_NO_TRAFFIC = frozenset(
    {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional",
     "call", "iota", "partition-id", "replica-id", "after-all", "opt-barrier", "custom-call",
     "async-start"}
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kernel:
    """An instruction that computes, with what is fused into it.

    Attributes:
      name: the compiler's.
      times: runs in a step.
      flops: of the matrix products in a run, a chip.
      bytes: that a run moves over HBM, a chip.
      cycles: that the compiler's cost model gives a run; 0 where it gives none.
      hidden: whether another core of the chip runs it beside this one's work.
    """

    name: str
    times: float
    flops: float
    bytes: float
    cycles: float = 0.0
    hidden: bool = False


def kernels(module: Module) -> list[Kernel]:
    """All that a call of `module` computes; collectives apart."""
    return [
        Kernel(
            instruction.name,
            execution.times,
            _flops(module, execution.computation, instruction),
            _traffic(module, execution.computation, instruction),
            _cycles(instruction),
            execution.hidden,
        )
        for execution in module.executed()
        if not execution.fused
        for instruction in execution.computation.instructions.values()
        if instruction.opcode not in _NO_TRAFFIC
        and not instruction.continues
        and instruction.opcode.removesuffix("-start") not in KINDS
    ]


def _cycles(instruction: Instruction) -> float:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return float(found[1]) if found else 0.0


def _flops(module: Module, computation: Computation, instruction: Instruction) -> float:
    if instruction.opcode in ("dot", "convolution"):
        return product_flops(computation, instruction)
    if instruction.opcode != "fusion":
        return 0.0
    return sum(
        _flops(module, inner, each)
        for inner in module.called(instruction)
        for each in inner.instructions.values()
    )


def product_flops(computation: Computation, instruction: Instruction) -> float:
    """Operations of one `dot` or `convolution`: 2 for every pair that is multiplied.

    TPUs run products as convolutions; batch dimensions are then spatial ones, dilated and padded
    so that a window meets one element. Such places are counted, padding is not, as by XLA's
    HloCostAnalysis::HandleConvolution.
    """
    left, right = (operand.result[0] for operand in computation.operands(instruction))
    out = instruction.result[0]
    if instruction.opcode == "dot":
        dimensions = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        contracted = [int(d) for d in dimensions[1].split(",") if d] if dimensions else []
        return 2.0 * out.size * math.prod(left.dimensions[d] for d in contracted)
    labels = instruction.attribute("dim_labels") or ""
    of_left, of_right, of_out = re.split(r"_|->", labels)
    batch_groups = int(instruction.attribute("batch_group_count") or 1)
    pairs = float(out.dimensions[of_out.index("b")] * out.dimensions[of_out.index("f")])
    pairs *= right.dimensions[of_right.index("i")] / batch_groups
    for axis, window in enumerate(_windows(instruction, sum(c.isdigit() for c in of_out))):
        label = str(axis)
        pairs *= _meetings(
            window,
            left.dimensions[of_left.index(label)],
            right.dimensions[of_right.index(label)],
            out.dimensions[of_out.index(label)],
        )
    return 2.0 * pairs


def _windows(instruction: Instruction, count: int) -> list[dict[str, tuple[int, int]]]:
    """For each spatial dimension its stride, dilations and padding (low, high)."""
    text = instruction.attribute("window") or ""
    found = {name: value.split("x") for name, value in re.findall(r"(\w+)=([\dx_\-]+)", text)}
    windows = []
    for axis in range(count):
        made = {}
        for name in ("stride", "pad", "lhs_dilate", "rhs_dilate"):
            value = found[name][axis] if name in found else ("0_0" if name == "pad" else "1")
            low, _, high = value.partition("_")
            made[name] = (int(low), int(high or low))
        windows.append(made)
    return windows


def _meetings(window: dict[str, tuple[int, int]], left: int, kernel: int, out: int) -> int:
    """Pairs of an output place and a kernel place that meet an element of the left factor."""
    stride, low = window["stride"][0], window["pad"][0]
    dilate, kernel_dilate = window["lhs_dilate"][0], window["rhs_dilate"][0]
    if kernel == 1 and out == left and stride == dilate == 1 and low == 0:
        return out
    return sum(
        (place := i * stride - low + k * kernel_dilate) % dilate == 0
        and 0 <= place // dilate < left
        for i, k in itertools.product(range(out), range(kernel))
    )


def _traffic(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes over HBM of one run.

    Of an array of which a fusion reads or updates a slice in place, the slice is counted. What
    lies in another memory (CMEM, VMEM) is not counted; layouts' padding is not known here.
    """
    operands = computation.operands(instruction)
    if instruction.opcode == "fusion":
        inner = module.called(instruction)[0]
        return sum(
            _read(module, inner, parameter, _in_hbm(operand.result))
            for parameter, operand in zip(inner.parameters(), operands, strict=True)
        ) + _written(inner, instruction)
    if instruction.opcode == "dynamic-slice":
        return 2.0 * _in_hbm(instruction.result)
    if instruction.opcode == "dynamic-update-slice":
        return 2.0 * operands[1].bytes
    if instruction.opcode.endswith("-start"):
        # What is moved comes first of a copy's results, else behind the operands.
        moved = instruction.result[0 if instruction.opcode == "copy-start" else len(operands)]
        ends = (operands[0].result[0].space, moved.space)
        return float(moved.bytes * ends.count(0))
    return sum(_in_hbm(operand.result) for operand in operands) + _in_hbm(instruction.result)


def _read(module: Module, inner: Computation, parameter: Instruction, whole: float) -> float:
    """What a fusion reads of an operand: its slices, if it does no more with it than slice."""
    sliced = 0.0
    for user in inner.instructions.values():
        for index, name in enumerate(user.operands):
            if name != parameter.name:
                continue
            if user.opcode in ("dynamic-slice", "gather") and index == 0:
                sliced += user.bytes
            elif user.opcode == "fusion":
                deeper = module.called(user)[0]
                sliced += _read(module, deeper, deeper.parameters()[index], whole)
            elif not (user.opcode == "dynamic-update-slice" and index == 0):
                return whole
    return min(whole, sliced)


def _written(inner: Computation, instruction: Instruction) -> float:
    roots = [inner.root]
    if inner.root.opcode == "tuple":
        roots = inner.operands(inner.root)
    total = 0.0
    for root, result in zip(roots, instruction.result, strict=False):
        while root.opcode == "bitcast":
            root = inner.instructions[root.operands[0]]
        if root.opcode == "dynamic-update-slice":
            result = inner.instructions[root.operands[1]].result[0]
        total += _in_hbm((result,))
    return total


def _in_hbm(arrays: tuple[Array, ...]) -> float:
    return float(sum(array.bytes for array in arrays if array.space == 0))
