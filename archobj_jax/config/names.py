"""What names in a gin file or on the command line mean, and the nearest if they mean nothing.

A file that says `from __gin__ import dynamic_registration` names what it imports, by import path.
The command line names what the files import, and by its ending (`train.total_steps`) anything that
gin knows.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from gin import config as gin_config
from gin import config_parser

from archobj_jax import native_messages
from archobj_jax.errors import UserError, did_you_mean

_DYNAMIC = "__gin__.dynamic_registration"


class Names(gin_config.ParseContext):
    """The names that one gin file can use; gin asks it for each configurable that it meets."""

    def process_import(self, statement: config_parser.ImportStatement) -> None:
        """Imports a module for the file; raises `UserError` when it cannot be."""
        try:
            with native_messages.held_back():
                super().process_import(statement)
        except ImportError as error:
            raise UserError(_import_failure(statement.module, error)) from error

    def get_configurable(self, selector: str) -> gin_config.Configurable:
        """The function or class that `selector` names; raises `UserError` when there is none."""
        if not self._dynamic_registration:
            return self._registered(selector)
        module, _, path = selector.partition(".")
        if module not in self._symbol_table:
            choices = [f"{symbol}.{path}" for symbol in self._symbol_table if symbol != "gin"]
            raise UserError(
                f"'{selector}' is not known: no import provides '{module}'."
                + did_you_mean(selector, choices)
            )
        self._check_path(selector)
        return super().get_configurable(selector)

    def _registered(self, selector: str) -> gin_config.Configurable:
        try:
            found = gin_config._REGISTRY.get_match(selector)
        except KeyError as error:  # ambiguous
            raise UserError(f"{error.args[0]} Give more of its import path.") from None
        if found is None:
            raise UserError(f"'{selector}' is not known." + did_you_mean(selector, _endings()))
        return found

    def _check_path(self, selector: str) -> None:
        first, *names = selector.split(".")
        owner, value = None, self._symbol_table[first]
        for depth, name in enumerate(names):
            owner, value = value, getattr(value, name, None)
            if value is None:
                path = ".".join([first, *names[:depth]])
                choices = (f"{path}.{choice}" for choice in _bindable(owner))
                meant = f"{path}.{name}"
                raise UserError(f"'{path}' has no '{name}'." + did_you_mean(meant, choices))
        if not callable(value):
            raise UserError(f"'{selector}' is not a function or class that gin could bind.")


class CommandLineNames(Names):
    """The names that flags can use: the files' imports first, then endings of what gin knows."""

    def __init__(self, imports: Iterable[config_parser.ImportStatement]):
        super().__init__()
        imports = list(imports)
        dynamic = [statement for statement in imports if statement.module == _DYNAMIC]
        for statement in dynamic[:1] + [s for s in imports if s.module != _DYNAMIC]:
            self.process_import(statement)

    def get_configurable(self, selector: str) -> gin_config.Configurable:
        """The function or class that `selector` names; raises `UserError` when there is none."""
        if self._dynamic_registration and self._imports_provide(selector):
            return super().get_configurable(selector)
        if gin_config._REGISTRY.matching_selectors(selector):
            return self._registered(selector)
        importable = set(self._importable())
        endings = [name for name in importable if name.endswith(f".{selector}")]
        if len(endings) == 1:
            return super().get_configurable(endings[0])
        hint = did_you_mean(selector, _endings() | importable)
        raise UserError(f"'{selector}' is not known to the gin files.{hint}")

    def _imports_provide(self, selector: str) -> bool:
        first, *names = selector.split(".")
        value = self._symbol_table.get(first)
        for name in names:
            value = getattr(value, name, None)
        return callable(value)

    def _importable(self) -> Iterable[str]:
        for symbol, module in self._symbol_table.items():
            if isinstance(module, ModuleType):
                yield from (f"{symbol}.{name}" for name in _bindable(module))


def register(function: Callable[..., Any]) -> gin_config.Configurable:
    """Makes gin know a plain function or class by its import path; returns gin's record of it."""
    known = gin_config._inverse_lookup(function)
    if known is None:
        gin_config.external_configurable(function, module=function.__module__)
        known = gin_config._inverse_lookup(function)
    return known


def check_parameter(configurable: gin_config.Configurable, name: str, shown: str) -> None:
    """Raises `UserError` unless `configurable`, written `shown`, has a parameter called `name`."""
    parameters = inspect.signature(configurable.wrapped).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if name not in parameters and not open_ended:
        hint = did_you_mean(name, parameters) or f" It has: {', '.join(parameters) or 'none'}."
        raise UserError(f"'{shown}' has no parameter '{name}'.{hint}")


def _bindable(owner: Any) -> list[str]:
    """The public modules of a module (or class), and its functions and classes that are its own."""
    root = getattr(owner, "__name__", "").partition(".")[0]

    def own(value: Any) -> bool:
        home = getattr(value, "__module__", None) or ""
        return isinstance(value, ModuleType) or (callable(value) and home.startswith(root))

    public = (name for name in dir(owner) if not name.startswith("_"))
    return [name for name in public if own(getattr(owner, name, None))]


def _endings() -> set[str]:
    """What gin knows, each by its last name and by the last two: `train` and `train.train`."""
    endings: set[str] = set()
    for selector, _ in gin_config._REGISTRY.items():  # noqa: PERF102 (has no keys())
        parts = selector.split(".")
        endings.update((parts[-1], ".".join(parts[-2:])))
    return endings


def _import_failure(module: str, error: ImportError) -> str:
    """One sentence on why `module` cannot be imported, and the nearest module beside it."""
    missing = error.name or "?"
    if module != missing and not module.startswith(missing + "."):
        return f"module '{module}' failed to import: {error}."
    parent, _, name = missing.rpartition(".")
    if parent:
        siblings = [m.name for m in pkgutil.iter_modules(importlib.import_module(parent).__path__)]
        near = did_you_mean(missing, (f"{parent}.{sibling}" for sibling in siblings))
    else:
        near = did_you_mean(name, (found.name for found in pkgutil.iter_modules()))
    return f"there is no module '{missing}'.{near}"
