"""Golden files of the ready experiments: `python -m tests.golden` writes them anew.

tests/golden/configs/<size>/<experiment>.txt        every value that the experiment's run uses
tests/golden/parameters/<size>/<architecture>.txt   path, shape, dtype, logical axes, initialiser

A change of one of them is to be seen in review: it is what a user's next run would do differently.
"""

import contextlib
import functools
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import seqio

import tasks.pretraining  # noqa: F401 (registers C4)
from archobj_jax import config
from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.parameters import parameter_infos
from archobj_jax.training.train import train

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "t5x_configs/experiments"
CONFIGS = ROOT / "tests/golden/configs"
PARAMETERS = ROOT / "tests/golden/parameters"


def experiments() -> list[str]:
    """All named experiments as `<size>/<name>`."""
    found = EXPERIMENTS.rglob("*.gin")
    return sorted(str(path.relative_to(EXPERIMENTS).with_suffix("")) for path in found)


def flattened(operative: str) -> str:
    """Gin's text with one `name = value` a line, sorted; without comments and imports."""
    lines = [line for line in operative.splitlines() if line and not line.startswith("#")]
    statements: list[str] = []
    for line in lines:
        if line[0] in " )]}":  # gin breaks long values into indented lines
            statements[-1] = statements[-1].removesuffix("\\").rstrip() + " " + line.strip()
        else:
            statements.append(line)
    bindings = [s for s in statements if not re.match(r"(from|import|include)\s", s)]
    return "\n".join(sorted(bindings)) + "\n"


def resolved(experiment: str) -> str:
    """Every value that the run of `experiment` uses, defaults included."""
    operative: list[str] = []

    def keep() -> str:
        operative.append(config.operative_config_str())
        return ""

    config.parse([str(EXPERIMENTS / f"{experiment}.gin")], _bindings(experiment), functions=[train])
    with contextlib.redirect_stdout(io.StringIO()), _t0_mixtures():
        config.call(train, model_dir="", dry_run=True, operative_config=keep)
    return flattened(operative[0])


@contextlib.contextmanager
def _t0_mixtures() -> Iterator[None]:
    """T0's mixtures by name: their tasks need PromptSource's templates, but no golden file does."""
    names = [n for n in ("d4_train", "d4_held_out") if n not in seqio.MixtureRegistry.names()]
    for name in names:
        seqio.MixtureRegistry.add(name, ["c4_v220_full_lm"], default_rate=1.0)
    yield
    for name in names:
        seqio.MixtureRegistry.remove(name)


def model(experiment: str) -> Architecture:
    """The model that `experiment` trains."""
    bindings = ["received.model=%MODEL", *_bindings(experiment)]
    config.parse([str(EXPERIMENTS / f"{experiment}.gin")], bindings, functions=[received])
    return config.call(received)


def _bindings(experiment: str) -> list[str]:
    """No checkpoint to start from, for experiments that need one."""
    is_first = "adapt_" not in experiment and "mtf_" not in experiment
    return [] if is_first else ['INITIAL_CHECKPOINT_PATH=""']


def received(model: Architecture) -> Architecture:
    """Takes what gin makes of MODEL."""
    return model


@functools.cache
def table(model: Architecture) -> str:
    """One line for each parameter, sorted by path."""
    return "".join(
        f"{info.name}  {list(info.shape)}  {info.dtype}  "
        f"({', '.join(info.logical_axes)})  {info.initializer}\n"
        for info in parameter_infos(model.abstract())
    )


def files(experiment: str) -> dict[Path, str]:
    """The golden files of `experiment` with their text as it is now."""
    size = experiment.split("/")[0]
    architecture = model(experiment)
    return {
        CONFIGS / f"{experiment}.txt": resolved(experiment),
        PARAMETERS / size / f"{architecture.symbol.lower()}.txt": table(architecture),
    }


def first_difference(golden: str, now: str) -> str | None:
    """The first line in which two texts differ, or None."""
    before, after = golden.splitlines(), now.splitlines()
    for number in range(max(len(before), len(after))):
        old, new = (lines[number] if number < len(lines) else "(end)" for lines in (before, after))
        if old != new:
            return f"line {number + 1}: golden {old!r}, now {new!r}"
    return None


def main() -> int:
    """Writes all golden files, and removes those of experiments that are gone."""
    made = {path: text for name in experiments() for path, text in files(name).items()}
    for folder in (CONFIGS, PARAMETERS):
        for stale in set(folder.rglob("*.txt")) - made.keys():
            stale.unlink()
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{len(made)} golden files of {len(experiments())} experiments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
