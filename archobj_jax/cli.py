"""The command `archobj`: reads flags, calls the library, turns errors into a message and a status.

The commands stand in commands.py. Importing this, and every `--help`, needs neither JAX nor
TensorFlow.
"""

import argparse
import contextlib
import glob
import importlib
import importlib.metadata
import os
import select
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import archobj_jax
from archobj_jax import gin_text, interrupts, native_messages
from archobj_jax.commands import COMMANDS, JOINING, Command, Option
from archobj_jax.errors import MachineError, UserError, did_you_mean, told
from archobj_jax.hosts import joining

_ACCELERATORS = (*joining.TPU_DEVICES, "/dev/nvidia*", "/dev/kfd", "/dev/dxg")
"""Devices of TPUs and GPUs."""

_NO_READER = 128 + signal.SIGPIPE
"""Exit status where what reads our standard output has ended, such as `head`; a shell's."""

_GIN_NAMES = ["--gin_file", "--gin_search_paths", "--gin.NAME"]

_EXIT_STATUSES = """\
exit status:
  0   done
  1   a defect of archobj, with its traceback
  2   something in the command, a gin file or the data needs mending; the message says what
  74  a disk, a shard or a checkpoint failed; what was saved is intact, the message says what next
  75  stopped by SIGTERM after saving, or because another process of the run was killed or has not
      come; the same command goes on from there
  130 stopped by Ctrl-C; `archobj train` saves first, once it is at its steps (of several processes
      each ends with 75)
  141 what read the output has ended, such as `head`"""

_GIN_FLAGS = """\
Gin files and --gin flags are T5X's. A later file overrides an earlier one, a flag overrides the
files; text needs no quotes (--gin.MODEL_DIR=gs://bucket/run). Files are looked up in the working
directory, in --gin_search_paths and where archobj is installed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; `arguments` are `sys.argv[1:]` if not given."""
    with interrupts.kept(), _reported() as status:
        _run(sys.argv[1:] if arguments is None else arguments)
    return status[-1]


def check(arguments: Sequence[str]) -> None:
    """Checks the names of a command and its flags, and nothing that they name.

    Raises:
      UserError: there is no such command or flag.
    """
    _parsed(arguments)


def _parsed(arguments: Sequence[str]) -> tuple[Command, dict[str, Any], list[str]]:
    """The command, its flags' values, and the --gin bindings."""
    bindings = [argument for argument in arguments if argument.startswith("--gin.")]
    rest = [argument for argument in arguments if not argument.startswith("--gin.")]
    for binding in bindings:
        if "=" not in binding:
            raise UserError(f"{binding}: expected --gin.NAME=VALUE, with the equals sign.")
    if not arguments:
        rest = ["--help"]
    named = next((argument for argument in rest if not argument.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        hint = did_you_mean(named, COMMANDS) or f" There are: {', '.join(COMMANDS)}."
        raise UserError(f"there is no command '{named}'.{hint}")
    parser = _parser()
    flags = vars(parser.parse_args(rest))
    if flags["command"] is None:
        raise UserError(f"name a command: {', '.join(COMMANDS)}.")
    command = COMMANDS[flags.pop("command")]
    if bindings and not (command.gin or command.gin_flags):
        raise UserError(f"{bindings[0]}: this command takes no gin flags; see its --help.")
    return command, flags, bindings


def _run(arguments: Sequence[str]) -> None:
    command, flags, bindings = _parsed(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what TensorFlow says as it is imported
    if not any(glob.glob(pattern) for pattern in _ACCELERATORS):
        # Else libtpu, if it is installed (for `archobj plan`), says at length that there is no TPU.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # A user's own tasks are modules in the working directory; never before installed ones.
    sys.path.append(os.getcwd())
    _call(command, flags, bindings)


def _call(command: Command, flags: dict[str, Any], bindings: Sequence[str]) -> None:
    """Calls the command's function with its options, and with what gin binds."""
    arguments: dict[str, Any] = {}
    place = {name: flags.pop(name) for name in JOINING} if command.joins else None
    if place is not None:
        joining.told_place(place)  # mistakes in flags are told before anything is imported
    for name, option in command.options.items():
        if option.instead is not None and flags[name] is not None:
            _load(option.instead)(**{name: flags[name]})
            return
        if option.type is bool and flags[name]:
            arguments |= {name: True, **option.sets}
        elif option.type is not bool and flags[name] is not None:
            arguments[name] = flags[name]
    if not command.gin:
        if command.gin_flags:
            arguments["bindings"] = bindings
        _load(command.function)(**arguments)
        return
    gin_files = ([command.gin_file] if command.gin_file else []) + flags["gin_file"]
    if not gin_files:
        raise UserError("give --gin_file=…, for instance " + command.examples[0][0])
    from archobj_jax import config

    if command.keeps_config:
        arguments["operative_config"] = config.operative_config_str
    # A generator: mistakes in the files are told before the function's module is imported.
    functions = (_load(target) for target in [command.function])
    config.parse(gin_files, bindings, flags["gin_search_paths"], functions=functions)
    function = _load(command.function)
    if place is None:
        config.call(function, **arguments)
        return
    from archobj_jax.hosts import together

    asked = _asked(command, arguments, config.bound_config_str())
    with together.joined(place, asked, saves_when_stopped=command.saves_when_stopped):
        config.call(function, **arguments)


def _asked(command: Command, arguments: Mapping[str, Any], configuration: str) -> dict[str, str]:
    """What all processes of a run must be asked for alike, by name."""
    flags = {f"--{name}": str(arguments[name]) for name in command.options if name in arguments}
    flags["the version of archobj"] = archobj_jax.__version__
    flags["the version of jax"] = importlib.metadata.version("jax")
    return {"the command": command.function, **flags, **gin_text.bindings(configuration)}


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    with native_messages.held_back():
        return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _reported() -> Iterator[list[int]]:
    """Yields a list whose last item is the exit status; prints the errors that have a message."""
    status = [0]
    try:
        yield status
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _silenced():
            raise
        status.append(_NO_READER)
    except (UserError, MachineError, KeyboardInterrupt) as error:
        number, message = told(error)
        with contextlib.suppress(BrokenPipeError):  # the status is told all the same
            print(message, file=sys.stderr)
        status.append(number)
    finally:
        _silenced()


def _silenced() -> bool:
    """Whether what reads our standard output has ended; if so, Python tells nothing of it."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # none, closed, or not of the system
        return False
    poll = select.poll()
    poll.register(number, 0)  # errors are told always
    if not poll.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return True


class _Parser(argparse.ArgumentParser):
    """Raises `UserError`, with the nearest flag, where argparse prints usage and exits."""

    def __init__(self, **options: Any):
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return flags
        name = unknown[0].partition("=")[0]
        known = ["--version"]
        prog = self.prog
        if flags.command:
            known = _flag_names(COMMANDS[flags.command])
            prog = f"{prog} {flags.command}"
        if not name.startswith("-"):
            raise UserError(
                f"{prog} does not know what to do with '{name}': flags are --NAME=VALUE."
            )
        hint = did_you_mean(name, known) or f" `{prog} --help` lists them."
        raise UserError(f"{prog} has no flag '{name}'.{hint}")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. `{self.prog} --help` says more.")


def _parser() -> _Parser:
    parser = _Parser(
        prog="archobj",
        description=archobj_jax.__doc__,
        epilog=f"`archobj COMMAND --help` says more of each.\n\n{_EXIT_STATUSES}",
    )
    parser.add_argument("--version", action="version", version=archobj_jax.__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        _add_flags(
            subparsers.add_parser(
                name,
                help=command.summary,
                description=_filled(command.about),
                epilog=_epilog(command),
            ),
            command,
        )
    return parser


def _add_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    for name, option in command.options.items():
        _add_option(parser, name, option)
    if command.joins:
        group = parser.add_argument_group("several processes as one run (docs/pods.md)")
        for name, option in JOINING.items():
            _add_option(group, name, option)
    if command.gin or command.gin_flags:
        parser.add_argument(
            "--gin.NAME=VALUE",  # for the help only: `_parsed` takes these out
            action="store_true",
            dest="gin",
            help="sets a macro or module.function.parameter; repeatable",
        )
    if not command.gin:
        return
    parser.add_argument(
        "--gin_file", action="append", default=[], metavar="FILE", help="a gin file; repeatable"
    )
    parser.add_argument(
        "--gin_search_paths",
        type=lambda text: [folder for folder in text.split(",") if folder],
        default=[],
        metavar="FOLDERS",
        help="more folders to look for gin files in, separated by commas",
    )


def _add_option(parser: argparse._ActionsContainer, name: str, option: Option) -> None:
    kind: dict[str, Any] = {"action": "store_true"}
    if option.type is not bool:
        kind = {"type": option.type, "default": option.default, "metavar": name.upper()}
        kind |= {"required": option.required, "nargs": option.values}
        kind["action"] = "append" if option.repeated else "store"
    if option.positional:
        parser.add_argument(name, type=option.type, metavar=name.upper(), help=option.help)
        return
    parser.add_argument(f"--{name}", help=option.help, **kind)


def _flag_names(command: Command) -> list[str]:
    flags = [f"--{name}" for name, option in command.options.items() if not option.positional]
    flags += [f"--{name}" for name in JOINING] if command.joins else []
    return flags + (_GIN_NAMES if command.gin else [])


def _epilog(command: Command) -> str:
    parts = []
    if command.macros:
        width = max(map(len, command.macros))
        macros = "\n".join(f"  {name:{width}}  {text}" for name, text in command.macros.items())
        parts += [f"usual macros (--gin.NAME=VALUE):\n{macros}"]
    if command.gin:
        parts += [_GIN_FLAGS]
    lines = "\n".join(f"  # {text}\n  {line}" for line, text in command.examples)
    return "\n\n".join([*parts, f"examples:\n{lines}", _EXIT_STATUSES])


def _filled(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))
