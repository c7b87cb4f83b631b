"""Reads gin files and flags into gin, remembering where each binding stands."""

import contextlib
import io
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gin import config as gin_config
from gin import config_parser

from archobj_jax.config import files
from archobj_jax.config.exceptions import unwrapped
from archobj_jax.config.flags import Flag
from archobj_jax.config.names import CommandLineNames, Names, check_parameter
from archobj_jax.errors import UserError, did_you_mean

# A binding in gin: scope, import path of the function or class, parameter.
Key = tuple[str, str, str]
MACRO = "gin.macro"
Statement = Any  # one of gin's statement tuples


@dataclass
class Reader:
    """Reads into gin's one configuration.

    Attributes:
        folders: the search path of gin files.
        places: where each binding was last set: `FILE line N` or the flag.
        flags: the bindings that the command line set, with the flag.
        macros: the macros that the files define or read, which flags may set.
    """

    folders: Sequence[Path]
    places: dict[Key, str] = field(default_factory=dict)
    flags: dict[Key, Flag] = field(default_factory=dict)
    macros: set[str] = field(default_factory=set)
    _imports: list[config_parser.ImportStatement] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def read_file(self, name: str, *, asked_by: str = "--gin_file") -> None:
        """Reads a gin file and what it includes; raises `UserError` with the file and line."""
        path, text = files.read(name, self.folders, asked_by=asked_by)
        if path in self._open:
            raise UserError(f"{asked_by}: '{name}' includes itself: {' > '.join(self._open)}.")
        self._open.append(path)
        names = Names()
        with _asked(names):
            for place, statement in _statements(
                text, lambda line: f"{path} line {line}", self.macros
            ):
                if isinstance(statement, config_parser.IncludeStatement):
                    self.read_file(statement.filename, asked_by=place)
                else:
                    with _at(place):
                        self._take(names, statement, place)
        self._open.pop()
        self._imports.extend(names.imports)
        gin_config._IMPORTS.update(names.imports)

    def read_flags(self, bindings: Sequence[str]) -> None:
        """Sets `NAME=VALUE` bindings, over what the files say; raises `UserError` with the flag."""
        names = CommandLineNames(self._imports)
        flags = [Flag.parse(binding) for binding in bindings]
        read: set[str] = set()  # macros that one flag may read from another
        with _asked(names):
            statements = [
                (flag, statement)
                for flag in flags
                for _, statement in _statements(flag.statement(), flag.place, read)
            ]
            for flag, statement in statements:
                with _at(str(flag)):
                    if not statement.arg_name:
                        self._check_macro(statement, read)
                    key = self._take(names, statement, str(flag))
                self.flags[key] = flag

    def _take(self, names: Names, statement: Statement, place: str) -> Key:
        """Applies one statement; returns the key of the binding, blank for other statements."""
        if isinstance(statement, config_parser.ImportStatement):
            names.process_import(statement)
            return ("", "", "")
        if isinstance(statement, config_parser.BlockDeclaration):
            names.get_configurable(statement.selector)
            return ("", "", "")
        assert isinstance(statement, config_parser.BindingStatement)
        if statement.arg_name:
            configurable = names.get_configurable(statement.selector)
            check_parameter(configurable, statement.arg_name, statement.selector)
            binding = (statement.scope, statement.selector, statement.arg_name)
            key = (statement.scope, configurable.selector, statement.arg_name)
        else:
            macro = _macro_name(statement)
            self.macros.add(macro)
            key = binding = (macro, MACRO, "value")
        gin_config.bind_parameter(binding, statement.value)
        self.places[key] = place
        return key

    def _check_macro(self, statement: config_parser.BindingStatement, read: set[str]) -> None:
        name = _macro_name(statement)
        if name not in self.macros | read:
            hint = did_you_mean(name, self.macros)
            if definer := files.definer(name, self.folders):
                hint += f" {definer} reads it: add --gin_file={definer} after the others."
            raise UserError(f"no gin file defines or reads '{name}', so it would do nothing.{hint}")


class _Delegate(gin_config.ParserDelegate):
    """Notes which macros are read."""

    def __init__(self, macros: set[str]):
        super().__init__()
        self._macros = macros

    def macro(self, name: str) -> gin_config.ConfigurableReference:
        if not gin_config._CONSTANTS.matching_selectors(name):
            self._macros.add(name)
        return super().macro(name)


def _statements(
    text: str, place: Callable[[int], str], macros: set[str]
) -> Iterator[tuple[str, Statement]]:
    """Yields (place, statement), and adds the macros that are read to `macros`.

    Args:
        text: gin statements.
        place: names a line of the text in errors.
        macros: filled.
    """
    parser = None
    try:
        parser = config_parser.ConfigParser(io.StringIO(text), _Delegate(macros))
        for statement in parser:
            yield place(statement.location.line_num), statement
    except SyntaxError as error:
        source = f" in `{error.text.strip()}`" if error.text and error.text.strip() else ""
        raise UserError(
            f"{place(error.lineno or 1)}: {error.msg.splitlines()[0]}{source}"
        ) from None
    except tokenize.TokenError as error:
        raise UserError(
            f"{place(error.args[1][0])}: {error.args[0]} (is a bracket or quote not closed?)"
        ) from None
    except Exception as error:
        cause = unwrapped(error)
        if parser and isinstance(cause, UserError):
            line = parser.current_token.start[0]
            raise UserError(f"{place(line)}: {cause}") from None
        raise


@contextlib.contextmanager
def _asked(names: Names) -> Iterator[None]:
    """Lets gin ask `names` what the selectors mean."""
    gin_config._PARSE_CONTEXTS.append(names)
    try:
        yield
    finally:
        gin_config._PARSE_CONTEXTS.pop()


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    """Puts the place before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error.__cause__


def _macro_name(statement: config_parser.BindingStatement) -> str:
    scope = f"{statement.scope}/" if statement.scope else ""
    return f"{scope}{statement.selector}"
