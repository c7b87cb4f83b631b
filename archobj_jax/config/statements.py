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
    """

    folders: Sequence[Path]
    places: dict[Key, str] = field(default_factory=dict)
    flags: dict[Key, Flag] = field(default_factory=dict)
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
                text, lambda line: f"{path} line {line}", self._delegate()
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
        with _asked(names):
            for flag in map(Flag.parse, bindings):
                for _, statement in _statements(flag.statement(), flag.place, self._delegate()):
                    with _at(str(flag)):
                        self.flags[self._take(names, statement, str(flag))] = flag

    def _delegate(self) -> config_parser.ParserDelegate:
        return gin_config.ParserDelegate()

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
            key = binding = (_macro_name(statement), MACRO, "value")
        gin_config.bind_parameter(binding, statement.value)
        self.places[key] = place
        return key


@dataclass
class Outline(Reader):
    """Reads which macros the files define or read, which flags may set; sets and imports nothing.

    A mistake in a file's syntax or a macro's name is so told without the seconds of imports.
    """

    macros: set[str] = field(default_factory=set)

    def check_flags(self, bindings: Sequence[str]) -> None:
        """Raises `UserError` for the first flag whose macro no file, and no other flag, knows."""
        flags = [Flag.parse(binding) for binding in bindings]
        known = _MacroNames(set(self.macros))
        statements = [
            (flag, statement)
            for flag in flags
            for _, statement in _statements(flag.statement(), flag.place, known)
        ]
        for flag, statement in statements:
            name = _macro_name(statement)
            if not statement.arg_name and name not in known.macros:
                raise UserError(
                    f"{flag}: no gin file defines or reads '{name}', so it would do nothing."
                    + self._hint(name)
                )

    def _delegate(self) -> config_parser.ParserDelegate:
        return _MacroNames(self.macros)

    def _take(self, names: Names, statement: Statement, place: str) -> Key:
        del names, place
        if isinstance(statement, config_parser.BindingStatement) and not statement.arg_name:
            self.macros.add(_macro_name(statement))
        return ("", "", "")

    def _hint(self, name: str) -> str:
        hint = did_you_mean(name, self.macros)
        if definer := files.definer(name, self.folders):
            hint += f" {definer} reads it: add --gin_file={definer} after the others."
        return hint


class _MacroNames(config_parser.ParserDelegate):
    """Notes which macros are read, and looks nothing up."""

    def __init__(self, macros: set[str]):
        self.macros = macros

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
        del scoped_configurable_name, evaluate

    def macro(self, macro_name: str) -> None:
        if not gin_config._CONSTANTS.matching_selectors(macro_name):
            self.macros.add(macro_name)


def _statements(
    text: str, place: Callable[[int], str], delegate: config_parser.ParserDelegate
) -> Iterator[tuple[str, Statement]]:
    """Yields (place, statement).

    Args:
        text: gin statements.
        place: names a line of the text in errors.
        delegate: what references and macros in values become.
    """
    parser = None
    try:
        parser = config_parser.ConfigParser(io.StringIO(text), delegate)
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
