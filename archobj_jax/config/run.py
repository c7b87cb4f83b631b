"""Parses gin files and flags, and calls plain functions with what they bind."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from gin import config as gin_config

from archobj_jax.config import checks, files
from archobj_jax.config.exceptions import unwrapped
from archobj_jax.config.names import register
from archobj_jax.config.statements import Outline, Reader

T = TypeVar("T")

_reader = Reader(folders=())
_functions: list[gin_config.Configurable] = []


def parse(
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    *,
    functions: Iterable[Callable[..., Any]] = (),
) -> None:
    """Sets the configuration: the files in order, then the bindings over them.

    Args:
        gin_files: paths (relative to the working directory, to `search_paths`, to `t5x_configs` or
            to the folder that holds it, or absolute) or `gs://` addresses.
        gin_bindings: `NAME=VALUE` (or `--gin.NAME=VALUE`): a macro, or a parameter as
            `scope/module.function.parameter`. A value that gin cannot read is text as it stands.
        search_paths: more folders to look for gin files in.
        functions: what will be called. Bindings may name these though no gin file imports them, and
            a flag may bind anything that one of them uses. Iterated over after the files are read.

    Raises:
        UserError: a file, module, function, parameter, macro or reference that does not exist, a
            syntax error, a scope that nothing uses, or a value of the wrong type.
    """
    global _reader, _functions
    gin_config.clear_config()
    outline = Outline(files.search_path(search_paths))
    for name in gin_files:
        outline.read_file(name)
    outline.check_flags(gin_bindings)
    _reader = Reader(outline.folders)
    for name in gin_files:
        _reader.read_file(name)
    _functions = [register(function) for function in functions]
    _reader.read_flags(gin_bindings)
    checks.check_types(_reader.places)
    checks.check_scopes(_reader.places)


def call(function: Callable[..., T], /, **arguments: Any) -> T:
    """Calls `function` with the parameters that the configuration binds and with `arguments`.

    Args:
        function: a plain function or class; its parameters are bound by its import path.
        **arguments: passed as they are, over what is bound.

    Raises:
        UserError: what the call needs is not set, or a flag binds what it does not use.
        Exception: what `function` raises, as it raised it.
    """
    configurable = register(function)
    checks.check_set(configurable, arguments, _reader.places)
    checks.check_flags([configurable, *_functions], _reader)
    try:
        return gin_config.get_configurable(function)(**arguments)
    except Exception as error:
        raise unwrapped(error) from error.__cause__


def operative_config_str() -> str:
    """What the calls so far used, defaults included, as a gin file that sets the same again."""
    return gin_config.operative_config_str(max_line_length=100)


def bound_config_str() -> str:
    """What `parse` bound, before any call, as gin text; defaults of the code are not in it."""
    return gin_config.config_str(max_line_length=100)
