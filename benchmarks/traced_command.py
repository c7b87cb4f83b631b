"""`archobj …` with a clock on it, as a process of its own for `benchmarks.start_up`.

    python -m benchmarks.traced_command STARTED FIGURES.json train --gin_file=…

STARTED is when, in seconds since the epoch. Writes where the seconds went: what runs inside another
phase counts for the inner one only. A module counts for the package of `_PACKAGES` that imports it.
"""

import functools
import importlib.abc
import importlib.machinery
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from archobj_jax import cli
from archobj_jax.commands import COMMANDS, Command

_PACKAGES = {
    **dict.fromkeys(("jax", "jaxlib"), "jax"),
    **dict.fromkeys(("tensorflow", "tensorflow_text", "tensorflow_datasets"), "tensorflow"),
    **{name: name for name in ("flax", "grain", "optax", "orbax", "seqio")},
    **dict.fromkeys(("archobj_jax", "tasks"), "archobj_jax"),
}
_COMPILE = "archobj_jax.training.compilation:compile_step"
_FUNCTIONS = {
    "archobj_jax.config.run:parse": "read gin",
    "archobj_jax.data.registry:find": "register tasks",
    "archobj_jax.data.loader:vocabulary": "load vocabulary",
    "archobj_jax.data.loader:describe": "open data",
    "archobj_jax.data.loader:eval_batches": "open data",
    "archobj_jax.data.loader:train_batches": "open data",
    "archobj_jax.training.state:Blueprint.of": "plan model",
    "archobj_jax.training.state:Blueprint.abstract_state": "plan model",
    "archobj_jax.training.state:Blueprint.init": "initialise",
    "archobj_jax.training.checkpoints:Checkpoints.restore_latest": "open checkpoints",
    "archobj_jax.training.flops:device_peak": "time device's peak",
    _COMPILE: "compile",
    "archobj_jax.training.loop:TrainingLoop.execute": "first step",
}
NAMES = (
    "interpreter",
    *(f"import {name}" for name in dict.fromkeys(_PACKAGES.values())),
    *dict.fromkeys(_FUNCTIONS.values()),
    "else",
)
"""The phases, in about the order in which they begin."""

_NOTED = ("jax", "seqio", "tensorflow")


class Clock:
    """Seconds, of the wall and of all cores, by phase; the innermost phase is charged."""

    def __init__(self) -> None:
        self.wall = dict.fromkeys(NAMES, 0.0)
        self.cpu = dict.fromkeys(NAMES, 0.0)
        self._open = ["else"]
        self._last = time.perf_counter(), time.process_time()

    def charge(self) -> None:
        """Counts what passed since the last time for the innermost phase."""
        now = time.perf_counter(), time.process_time()
        self.wall[self._open[-1]] += now[0] - self._last[0]
        self.cpu[self._open[-1]] += now[1] - self._last[1]
        self._last = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What runs inside counts for `name`."""
        self.charge()
        self._open.append(name)
        try:
            yield
        finally:
            self.charge()
            self._open.pop()


class _Finder(importlib.abc.MetaPathFinder):
    """Charges what runs as modules are imported, and then wraps functions of theirs.

    Attributes:
      clock: is charged.
      wrappers: by `module:function` or `module:Class.method`, what takes its place.
    """

    def __init__(self, clock: Clock, wrappers: Mapping[str, Callable[[Any], Any]]):
        self.clock = clock
        self.wrappers = wrappers

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Finds a module as Python does."""
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = functools.partial(self._run, spec.loader.exec_module)
            spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec

    def _run(self, run: Callable[[ModuleType], None], module: ModuleType) -> None:
        package = _PACKAGES.get(module.__name__.partition(".")[0])
        if package is None:
            run(module)
        else:
            with self.clock.phase(f"import {package}"):
                run(module)
        for target, wrapper in self.wrappers.items():
            name, _, path = target.partition(":")
            if name == module.__name__:
                *classes, attribute = path.split(".")
                owner = functools.reduce(getattr, classes, module)
                found = vars(owner)[attribute]
                if isinstance(found, classmethod):
                    setattr(owner, attribute, classmethod(wrapper(found.__func__)))
                else:
                    setattr(owner, attribute, wrapper(found))


class _Trace:
    """What is noted of one command that was started at `started`, seconds since the epoch."""

    def __init__(self, started: float):
        self.started = started
        self.clock = Clock()
        self.clock.wall["interpreter"] = time.time() - started
        self.clock.cpu["interpreter"] = time.process_time()
        self.figures: dict[str, Any] = {}

    def wrappers(self, command: Command) -> dict[str, Callable[[Any], Any]]:
        """What takes the place of the functions that are watched."""
        own = (command.function, *(option.instead for option in command.options.values()))
        return {
            **{target: functools.partial(self._timed, name) for target, name in _FUNCTIONS.items()},
            **{target: self._begun for target in own if target is not None},
            _COMPILE: self._ending_with_the_first_step,
        }

    def end(self) -> None:
        """Notes the seconds, unless that was done before."""
        if "seconds" not in self.figures:
            self.clock.charge()
            self.figures["seconds"] = time.time() - self.started
            self.figures["cpu_seconds"] = time.process_time()

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.clock.phase(name):
                return function(*args, **kwargs)

        return timed

    def _begun(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def begun(*args: Any, **kwargs: Any) -> Any:
            self.figures["work_begins"] = time.time() - self.started
            return function(*args, **kwargs)

        return begun

    def _ending_with_the_first_step(self, compile_step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compile_step)
        def compiled(*args: Any, **kwargs: Any) -> Any:
            with self.clock.phase("compile"):
                step = compile_step(*args, **kwargs)

            def first(*args: Any) -> None:
                _, metrics = step(*args)
                float(metrics["loss"])  # waits for it
                self.end()
                raise SystemExit(0)

            return first

        return compiled


def main(arguments: Sequence[str]) -> int:
    """Runs the command and writes its figures; returns its exit status."""
    started, path, *command = arguments
    trace = _Trace(float(started))
    sys.meta_path.insert(0, _Finder(trace.clock, trace.wrappers(COMMANDS[command[0]])))
    try:
        return cli.main(command)
    finally:
        trace.end()
        figures = {"phases": trace.clock.wall, "cpu_phases": trace.clock.cpu, **trace.figures}
        figures["imports"] = [name for name in _NOTED if name in sys.modules]
        Path(path).write_text(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
