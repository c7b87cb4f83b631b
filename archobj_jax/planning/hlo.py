"""Reads the text of a compiled HLO module: instructions, loops, and how often each runs.

The grammar is XLA's `HloModule::ToString` (openxla.org/xla/operation_semantics, hlo_lexer.cc); read
is what counting needs, no more.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "f4e2m1fn": 4, "token": 0, "c64": 64}
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COMMENT = re.compile(r"/\*.*?\*/")
_KNOWN_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|body|to_apply|called_computations?)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
# What passes time on a core while an asynchronous operation may be on its way.
_WORK = frozenset({"fusion", "while", "conditional", "call", "convolution", "dot"})
# What these call is a scalar function, applied to elements: nothing in it is counted.
_ELEMENTWISE_CALLS = frozenset(
    {"reduce", "reduce-window", "all-reduce", "all-reduce-start", "reduce-scatter", "scatter",
     "select-and-scatter", "sort", "map"}
)  # fmt: skip
_CONTINUATIONS = ("-update", "-done")


@dataclasses.dataclass(frozen=True)
class Array:
    """Type of an array: element type, dimensions, and the memory space of its layout (0 is HBM)."""

    dtype: str
    dimensions: tuple[int, ...]
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dimensions)

    @property
    def bytes(self) -> int:
        """Bytes without the padding of its layout."""
        digits = re.search(r"\d+", self.dtype)
        bits = _BITS.get(self.dtype, int(digits[0]) if digits else 8)
        return -(-self.size * bits // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction: its result (several arrays if a tuple), operation, operands, the rest."""

    name: str
    result: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str = ""
    is_root: bool = False

    @property
    def continues(self) -> bool:
        """Whether it goes on with or ends what a `…-start` began, which is what runs."""
        return self.opcode.endswith(_CONTINUATIONS)

    @property
    def bytes(self) -> int:
        """Bytes of the result."""
        return sum(array.bytes for array in self.result)

    def attribute(self, name: str) -> str | None:
        """The value of `name=…`: up to a space or the comma after it, or within braces."""
        found = re.search(
            rf"(?:^|[ ,]){name}=(\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|[^\s,]+)", self.attributes
        )
        return found[1] if found else None


@dataclasses.dataclass(frozen=True)
class Computation:
    """A named list of instructions, in the order in which they are scheduled."""

    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        """What it returns."""
        return next(each for each in self.instructions.values() if each.is_root)

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """The instructions that an instruction reads."""
        return [self.instructions[name] for name in instruction.operands]

    def works_beside(self, start: Instruction) -> bool:
        """Whether the core has work of its own while what `start` began is on its way.

        An `async-start` without operands only wakes the SparseCore; an `async-update` brings them.
        """
        scheduled = iter(self.instructions.values())
        next(each for each in scheduled if each.name == start.name)
        last, beside = start.name, False
        for each in scheduled:
            if last in each.operands and each.continues:
                if each.opcode.endswith("-done"):
                    break
                last, beside = each.name, beside and len(each.operands) == 1
            else:
                beside = beside or each.opcode in _WORK
        return beside

    def parameters(self) -> list[Instruction]:
        """Its parameters, by number."""
        found = [each for each in self.instructions.values() if each.opcode == "parameter"]
        return sorted(found, key=lambda each: int(each.literal))


@dataclasses.dataclass(frozen=True)
class Execution:
    """A computation that a call of a module runs.

    Attributes:
      computation: what runs.
      times: how often.
      fused: whether within a fusion.
      hidden: whether it runs beside the core's own work: it was started before that and is waited
        for after it.
    """

    computation: Computation
    times: float = 1.0
    fused: bool = False
    hidden: bool = False


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled module.

    Attributes:
      computations: by name.
      entry: the one that a call runs.
      unbounded: how often a loop is taken to run whose end depends on data; None allows none.
    """

    computations: Mapping[str, Computation]
    entry: str
    unbounded: int | None = None

    def called(self, instruction: Instruction) -> list[Computation]:
        """What an instruction runs, a loop's body among them; not its condition."""
        if instruction.opcode in _ELEMENTWISE_CALLS or instruction.continues:
            return []
        names = _CALLED.findall(instruction.attributes)
        for several, one in _BRANCHES.findall(instruction.attributes):
            names += [name.strip(" %") for name in several.split(",")] if several else [one]
        return [self.computations[name] for name in names]

    def executed(self) -> Iterator[Execution]:
        """Each computation that runs.

        A computation that is called in several places comes several times. Of a conditional all
        branches are counted, and the body of a loop as often as `trip_count` says. What an
        `async-start` calls runs once, whatever updates and ends it.
        """
        pending = [Execution(self.computations[self.entry])]
        while pending:
            execution = pending.pop()
            yield execution
            for instruction in execution.computation.instructions.values():
                pending += self._called_by(instruction, execution)

    def _called_by(self, instruction: Instruction, by: Execution) -> list[Execution]:
        called, times, hidden = self.called(instruction), by.times, by.hidden
        if called and instruction.opcode == "while":
            times *= self.trip_count(by.computation, instruction)
        if called and instruction.opcode == "async-start":
            hidden = hidden or by.computation.works_beside(instruction)
        fused = by.fused or instruction.opcode == "fusion"
        return [Execution(each, times, fused, hidden) for each in called]

    def trip_count(self, computation: Computation, loop: Instruction) -> int:
        """How often a `while` runs: as annotated, read from `counter < constant`, or `unbounded`.

        Raises:
          ValueError: it is neither.
        """
        if known := _KNOWN_TRIP_COUNT.search(loop.attributes):
            return int(known[1])
        name = (loop.attribute("condition") or "").lstrip("%")
        condition = self.computations[name]
        compare, at = condition.root, condition
        while compare.opcode in ("fusion", "call"):
            at = self.called(compare)[0]
            compare = at.root
        constants = [c for c in condition.instructions.values() if c.opcode == "constant"]
        constants += [c for c in at.instructions.values() if c.opcode == "constant"]
        direction = compare.attribute("direction")
        if (
            compare.opcode != "compare"
            or direction != "LT"
            or len({c.literal for c in constants}) != 1
        ):
            if self.unbounded is not None:
                return self.unbounded
            raise ValueError(f"the condition of {loop.name} is no `counter < constant`")
        return max(0, int(constants[0].literal) - self._start(computation, loop, condition))

    def _start(self, computation: Computation, loop: Instruction, condition: Computation) -> int:
        """What the counter of a loop begins with, if a constant; else 0, as of every `lax.scan`."""
        read = [i for i in condition.instructions.values() if i.opcode == "get-tuple-element"]
        state = computation.instructions[loop.operands[0]]
        if len(read) != 1 or state.opcode != "tuple":
            return 0
        first = computation.instructions[state.operands[int(read[0].attribute("index") or 0)]]
        while first.opcode in ("copy", "bitcast"):
            first = computation.instructions[first.operands[0]]
        return int(first.literal) if first.opcode == "constant" else 0


def parse(text: str, unbounded: int | None = None) -> Module:
    """Reads a module, as `jax.stages.Compiled.as_text()` has it; see `Module` for `unbounded`."""
    computations: dict[str, Computation] = {}
    entry = ""
    current: dict[str, Instruction] | None = None
    for line in text.splitlines():
        if current is None:
            if header := _HEADER.match(line):
                current = {}
                computations[header[2]] = Computation(header[2], current)
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif made := _INSTRUCTION.match(_COMMENT.sub("", line)):
            instruction = _instruction(bool(made[1]), made[2], made[3])
            current[instruction.name] = instruction
    return Module(computations, entry, unbounded)


def _instruction(is_root: bool, name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    result, rest = text[:end], text[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing]
    leaf = rest[:opening] in ("parameter", "constant")
    return Instruction(
        name=name,
        result=arrays(result),
        opcode=rest[:opening],
        operands=() if leaf else tuple(re.findall(r"%([\w.\-]+)", inside)),
        attributes=rest[closing + 1 :].lstrip(", "),
        literal=inside if leaf else "",
        is_root=is_root,
    )


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, of a tuple in order."""
    made = []
    for dtype, dimensions, layout in _ARRAY.findall(text):
        sizes = tuple(int(size.lstrip("<=")) for size in dimensions.split(",") if size)
        space = _MEMORY_SPACE.search(layout)
        made.append(Array(dtype, sizes, int(space[1]) if space else 0))
    return tuple(made)


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis at `opening` closes."""
    depth = 0
    for index in range(opening, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")
