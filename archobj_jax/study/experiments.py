"""The ready experiments that the stages of a study are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from archobj_jax.config import files
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study.chains import MTF, Leg
from archobj_jax.study.design import Study

ADAPT = "t5x_configs/runs/adapt.gin"


def gin_files(study: Study, size: str, legs: Sequence[Leg]) -> tuple[tuple[str, ...], str]:
    """The experiment of a chain's last leg, the adaptation, the study's own files; and a note.

    Raises:
      UserError: there is no such size or experiment.
    """
    folder, leg = f"{study.experiments}/{size}", legs[-1]
    if leg.objective == MTF:
        before = _file_name(legs[-2].pair)
        architecture = leg.architecture.lower()
        own = f"mtf_{architecture}_from_{before}"
        found = _experiment(study, size, [own, f"mtf_{architecture}_from_*"])
        note = f"there is no {folder}/{own}.gin; {found} is taken"
        missing = found != f"{folder}/{own}.gin"
        return (found, *study.gin_files), note if missing else ""
    found = _experiment(study, size, [_file_name(leg.pair)])
    return (found, *([ADAPT] if len(legs) > 1 else []), *study.gin_files), ""


def _file_name(pair: str) -> str:
    return pair.lower().replace(":", "_")


def _experiment(study: Study, size: str, patterns: Sequence[str]) -> str:
    """The first gin file of a size that has one of the names."""
    folder = f"{study.experiments}/{size}"
    for pattern in patterns:
        for path in _found(study, f"{size}/{pattern}.gin"):
            return f"{folder}/{path.name}"
    if known := {path.stem for path in _found(study, f"{size}/*.gin")}:
        raise UserError(
            f"Study: there is no experiment {folder}/{patterns[0]}.gin."
            f"{did_you_mean(patterns[0], known)}"
        )
    sizes = {path.parent.name for path in _found(study, "*/*.gin")}
    if not sizes:
        raise UserError(
            f"Study.experiments = '{study.experiments}': expected a folder of experiments, "
            "SIZE/PAIR.gin; there is none."
        )
    raise UserError(
        f"Study.sizes has '{size}': there is no folder {folder}."
        f"{did_you_mean(size, sizes, count=1)} Sizes are {', '.join(sorted(sizes))}."
    )


def _found(study: Study, pattern: str) -> Iterator[Path]:
    for root in files.search_path():
        yield from sorted((root / study.experiments).glob(pattern))
