"""Flags of the launch programs, from the command line and a TOML file."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from archobj_jax import job_names
from archobj_jax.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        help: half a sentence.
        type: str, int, float, bool (a switch) or dict (NAME=VALUE, repeatable; a table in TOML, to
            which the command line adds).
        default: if neither the command line nor the file gives it.
        choices: the values there are; () for any.
    """

    help: str
    type: type = str
    default: Any = None
    choices: tuple[str, ...] = ()


SHARED: Mapping[str, Flag] = {
    "config": Flag("a TOML file that gives flags; those of the command line win"),
    "dry_run": Flag("print every command, run none", bool, False),
}


def parse(
    arguments: Sequence[str],
    *,
    program: str,
    about: str,
    flags: Mapping[str, Flag],
    subcommands: Mapping[str, str],
    needs_command: Sequence[str],
) -> tuple[str, dict[str, Any], list[str]]:
    """Returns the subcommand, the flags' values, and the command after `--`, argument by argument.

    Args:
        arguments: the command line.
        program: its name, for help and messages.
        about: the help's first paragraph, and its examples.
        flags: by name.
        subcommands: what each does, by name; {} for a program without, whose own is "".
        needs_command: the subcommands that a command must follow.

    Raises:
        UserError: an unknown name, a value that does not fit, or a command missing or too many.
    """
    flags = {**flags, **SHARED}
    own, command = list(arguments), []
    if "--" in own:
        cut = own.index("--")
        own, command = own[:cut], own[cut + 1 :]
    parser = _Parser(program, about, flags, subcommands)
    given = vars(parser.parse_args(own))
    subcommand = given.pop("subcommand", "")
    if subcommands and subcommand not in subcommands:
        raise UserError(
            f"there is no subcommand '{subcommand}'."
            + (did_you_mean(subcommand, subcommands) or f" There are: {', '.join(subcommands)}.")
        )
    if command and subcommand not in needs_command:
        raise UserError(f"{program} {subcommand} takes no command after --.")
    if not command and subcommand in needs_command:
        raise UserError(
            f"{f'{program} {subcommand}'.strip()} needs the command to run: "
            "… -- archobj train --gin_file=…"
        )
    values = {name: flag.default for name, flag in flags.items()}
    if "config" in given:
        values |= _read(given["config"], flags)
    for name, value in given.items():
        values[name] = values[name] | value if flags[name].type is dict else value
    return subcommand, values, command


def required(values: Mapping[str, Any], *names: str) -> None:
    """Checks that flags were given.

    Raises:
        UserError: one was not.
    """
    for name in names:
        if not values[name]:
            raise UserError(f"give --{name}=…, or {name} in the file of --config.")


def checked_name(flag: str, name: str) -> str:
    """Returns a name that Google Cloud and Kubernetes accept.

    Raises:
        UserError: it is not one.
    """
    if not job_names.PATTERN.fullmatch(name):
        raise UserError(
            f"--{flag}={name}: expected lower-case letters, digits and '-', a letter first, at "
            f"most {job_names.LONGEST} characters."
        )
    return name


_LIKEWISE = {"--tpu_type": "--accelerator_type", "--accelerator_type": "--tpu_type"}


class _Parser(argparse.ArgumentParser):
    """Raises `UserError`, with the nearest name, where argparse prints usage and exits."""

    def __init__(
        self, program: str, about: str, flags: Mapping[str, Flag], subcommands: Mapping[str, str]
    ):
        width = max(map(len, subcommands), default=0)
        listed = "\n".join(f"  {name:{width}}  {text}" for name, text in subcommands.items())
        super().__init__(
            prog=program,
            description=f"{about}\n\nsubcommands:\n{listed}" if subcommands else about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            usage=f"{program}{' SUBCOMMAND' if subcommands else ''} --NAME=VALUE… [-- COMMAND…]",
        )
        self.names = [f"--{name}" for name in flags]
        if subcommands:
            self.add_argument("subcommand", help=argparse.SUPPRESS)
        for name, flag in flags.items():
            options: dict[str, Any] = {"help": flag.help}
            if flag.type is bool:  # --spot, or --spot=false over a file's
                options |= {"nargs": "?", "const": True, "type": _truth, "metavar": "true|false"}
            elif flag.type is dict:
                options |= {"action": _Pair, "metavar": "NAME=VALUE"}
            else:
                options |= {"type": flag.type, "metavar": name.upper()}
                options |= {"choices": flag.choices} if flag.choices else {}
            self.add_argument(f"--{name}", **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith("-"):
                raise UserError(
                    f"{self.prog} does not know what to do with '{name}': put -- before the "
                    "command that is to run."
                )
            near = _LIKEWISE.get(name, name)  # what the other launcher calls it
            hint = did_you_mean(near, self.names) or f" `{self.prog} --help` lists them."
            raise UserError(f"{self.prog} has no flag '{name}'.{hint}")
        return values

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. `{self.prog} --help` says more.")


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError("expected true or false")
    return text == "true"


class _Pair(argparse.Action):
    """Collects NAME=VALUE into a dictionary."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        name, equals, value = values.partition("=")
        if not equals:
            raise UserError(f"{option}={values}: expected NAME=VALUE.")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), name: value})


def _read(path: str, flags: Mapping[str, Flag]) -> dict[str, Any]:
    try:
        values = tomllib.loads(Path(path).read_text())
    except OSError as error:
        beside = Path(path).parent.glob("*.toml") if isinstance(error, FileNotFoundError) else ()
        hint = did_you_mean(path, map(str, beside))
        raise UserError(f"--config={path}: {error.strerror}.{hint}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.") from None
    for name, value in values.items():
        if name not in flags or name == "config":
            hint = did_you_mean(name, flags) or f" There are: {', '.join(flags)}."
            raise UserError(f"{path}: there is no flag '{name}'.{hint}")
        flag = flags[name]
        kind = flag.type
        fits = type(value) is kind or (kind is float and type(value) is int)
        if kind is dict and fits:
            fits = all(type(each) is str for each in value.values())
        if not fits:
            wanted = "a table of texts" if kind is dict else kind.__name__
            raise UserError(f"{path}: {name} = {value!r}: expected {wanted}.")
        if flag.choices and value not in flag.choices:
            raise UserError(f"{path}: {name} = {value!r}: one of {', '.join(flag.choices)}.")
    return values
