"""Turns `--gin.NAME=VALUE`, as shells deliver it, into a gin statement."""

import io
import re
import tokenize
from dataclasses import dataclass

from gin import config_parser

from archobj_jax.errors import UserError

_KEY = re.compile(r"([A-Za-z_][\w.]*/)*[A-Za-z_][\w.]*")
# A value that begins so was meant as gin, even if it does not parse: `[1, 2`, `@models.Causal(`.
_GIN_STARTS = ("'", '"', "[", "(", "{", "@", "%")


@dataclass(frozen=True)
class Flag:
    """One binding of the command line: `key` is a macro or `scope/module.function.parameter`."""

    key: str
    value: str

    @classmethod
    def parse(cls, binding: str) -> "Flag":
        """Reads `NAME=VALUE` (with or without `--gin.` before it); raises `UserError` otherwise."""
        binding = binding.removeprefix("--gin.")
        key, equals, value = (part.strip() for part in binding.partition("="))
        if not equals:
            raise UserError(f"--gin.{binding}: expected --gin.NAME=VALUE, with the equals sign.")
        if not _KEY.fullmatch(key):
            raise UserError(
                f"--gin.{binding}: expected the name of a macro or scope/module.function.parameter "
                f"before the equals sign, got '{key}'."
            )
        if not value:
            raise UserError(f"--gin.{key}= has no value; write --gin.{key}='\"\"' for empty text.")
        return cls(key, value)

    def __str__(self) -> str:
        return f"--gin.{self.key}={self.value}"

    def place(self, line: int) -> str:
        """Names the flag in errors; it is one line."""
        del line
        return str(self)

    def statement(self) -> str:
        """The gin statement: the value as it stands where gin can read it, else quoted as text."""
        as_it_stands = f"{self.key} = {self.value}"
        if self.value.startswith(_GIN_STARTS) or _parses(as_it_stands):
            return as_it_stands
        return f"{self.key} = {self.value!r}"


class _Syntax(config_parser.ParserDelegate):
    """Reads references and macros without looking them up."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
        del scoped_configurable_name, evaluate

    def macro(self, macro_name: str) -> None:
        del macro_name


def _parses(statement: str) -> bool:
    try:
        list(config_parser.ConfigParser(io.StringIO(statement), _Syntax()))
    except (SyntaxError, tokenize.TokenError):
        return False
    return True
