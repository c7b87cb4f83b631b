"""Compiles a step for a topology, once: what came of it is kept on disk."""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from archobj_jax.data import atomic
from archobj_jax.native_messages import held_back
from archobj_jax.planning.steps import PlannedStep
from archobj_jax.planning.topology import Topology

DEFAULT_CACHE_DIR = "runs/cache/plans"
_FLAGS = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
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
      seconds: that compiling took.
      needed: bytes of HBM that the compiler says a step needs that does not fit; 0 if it fits.
    """

    hlo: str
    memory: Mapping[str, int]
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


def compiled_step(step: PlannedStep, topology: Topology, cache_dir: str | None) -> CompiledStep:
    """What the compiler makes of a step, or what `cache_dir` keeps of it; None keeps nothing.

    Runs of one program share what is kept, whatever else their configurations say.
    """
    lowered = step.lower()
    path = None
    if cache_dir is not None:
        path = Path(cache_dir) / f"{_key(lowered, step, topology)}.json.gz"
        if path.exists():
            return CompiledStep(**json.loads(gzip.decompress(path.read_bytes())))
    mesh = ", ".join(f"{axis}={size}" for axis, size in step.mesh.shape.items())
    print(f"Compiling for {topology.name} ({mesh}): {step.title}.", file=sys.stderr, flush=True)
    made = _compiled(lowered)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, gzip.compress(json.dumps(dataclasses.asdict(made)).encode()))
    return made


def _key(lowered: jax.stages.Lowered, step: PlannedStep, topology: Topology) -> str:
    """Names a compilation: the program with its shardings, what it is for, and the compiler."""
    parts = [
        lowered.as_text(),
        topology.name,
        topology.slices,
        [device.id for device in step.mesh.devices.flat],
        importlib.metadata.version("libtpu"),
        *(os.environ.get(name, "") for name in _FLAGS),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _compiled(lowered: jax.stages.Lowered) -> CompiledStep:
    """Compiles; reads the module from what the compiler writes of its work.

    The executable's own text will not do: libtpu 0.0.52 hands modules out with SparseCore
    operations that jaxlib 0.10.2 refuses to read.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, held_back():
        dumped: dict[str, str | bool] = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        try:
            made = lowered.compile(compiler_options=dumped)
        except jax.errors.JaxRuntimeError as error:
            return CompiledStep("", {}, time.perf_counter() - start, _needed(error))
        seconds = time.perf_counter() - start
        (module,) = Path(folder).glob("*.after_codegen.txt")
        return CompiledStep(module.read_text(), _memory(made), seconds)


def _memory(made: jax.stages.Compiled) -> dict[str, int]:
    stats: Any = made.memory_analysis()
    return {
        "argument": stats.argument_size_in_bytes,
        "output": stats.output_size_in_bytes,
        "alias": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "program": stats.generated_code_size_in_bytes,
    }


def _needed(error: jax.errors.JaxRuntimeError) -> float:
    """Bytes of HBM that a step needs which does not fit; another error is raised again."""
    message = str(error)
    found = _TOO_LARGE.search(message)
    if "RESOURCE_EXHAUSTED" not in message or not found:
        raise error
    return float(found[1]) * _UNITS[found[2]]
