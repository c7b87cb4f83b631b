"""Compiles a training step for a topology, once: what came of it is kept on disk."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

import archobj_jax
from archobj_jax.errors import UserError
from archobj_jax.planning.topology import Topology

DEFAULT_CACHE_DIR = "runs/cache/plans"
_COMPILED_CODE = ("architectures", "objectives", "partitioning", "training")
_TOO_LARGE = re.compile(
    r"(?:total memory required for[^(]*\(|Used )([\d.]+)([KMGT]?)(?:iB)?\)?[^\n]*?(?:exceeds|of) "
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the compiler made of a step.

    Attributes:
      hlo: the optimized module as text; empty if the step does not fit.
      memory: bytes a chip: argument, output, alias, temporaries, program (see
        `jax.stages.Compiled.memory_analysis`).
      counted_once: `cost_analysis`'s operations, in which a loop's body counts once.
      seconds: that compiling took, tracing included.
      needed: bytes of HBM that the compiler says a step needs that does not fit; 0 if it fits.
    """

    hlo: str
    memory: Mapping[str, int]
    counted_once: float
    seconds: float
    needed: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the compiler found room."""
        return self.needed == 0.0

    @property
    def hbm_bytes(self) -> float:
        """Bytes of HBM a chip while the step runs."""
        if not self.fits:
            return self.needed
        memory = self.memory
        held = memory["argument"] + memory["output"] - memory["alias"]
        return float(held + memory["temporaries"] + memory["program"])


def key(topology: Topology, *described: object) -> str:
    """Names a compilation: by what is compiled, for what, by which versions of which code."""
    code = hashlib.sha256()
    package = Path(archobj_jax.__file__).parent
    for folder in _COMPILED_CODE:
        for path in sorted((package / folder).rglob("*.py")):
            code.update(path.read_bytes())
    versions = [
        importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu", "optax", "flax")
    ]
    parts = [topology.name, topology.slices, versions, code.hexdigest(), *described]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def compiled_step(
    compile_it: Callable[[], jax.stages.Compiled], name: str, cache_dir: str | None
) -> CompiledStep:
    """What came of `compile_it`, or what is kept of it under `name` in `cache_dir`."""
    path = None if cache_dir is None else Path(cache_dir) / f"{name}.json.gz"
    if path is not None and path.exists():
        return CompiledStep(**json.loads(gzip.decompress(path.read_bytes())))
    start = time.perf_counter()
    try:
        made = compile_it()
    except jax.errors.JaxRuntimeError as error:
        step = _too_large(error, time.perf_counter() - start)
    else:
        step = _described(made, time.perf_counter() - start)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(step)).encode()))
        part.rename(path)
    return step


def _described(made: jax.stages.Compiled, seconds: float) -> CompiledStep:
    stats: Any = made.memory_analysis()
    memory = {
        "argument": stats.argument_size_in_bytes,
        "output": stats.output_size_in_bytes,
        "alias": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }
    cost = made.cost_analysis() or {}
    try:
        text = made.as_text() or ""
    except jax.errors.JaxRuntimeError as error:  # libtpu's module, in a form jaxlib does not know
        held = memory["argument"] + memory["output"] - memory["alias"]
        total = (held + memory["temporaries"] + memory["program"]) / 2**30
        raise UserError(
            f"the step compiles and takes {total:.2f} GiB of HBM a chip, but jaxlib "
            f"{importlib.metadata.version('jaxlib')} cannot read what libtpu "
            f"{importlib.metadata.version('libtpu')} made of it, so that nothing else is known: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return CompiledStep(text, memory, float(cost.get("flops", 0.0)), seconds)


def _too_large(error: jax.errors.JaxRuntimeError, seconds: float) -> CompiledStep:
    message = str(error)
    found = _TOO_LARGE.search(message)
    if "RESOURCE_EXHAUSTED" not in message or not found:
        raise error
    return CompiledStep("", {}, 0.0, seconds, float(found[1]) * _UNITS[found[2]])
