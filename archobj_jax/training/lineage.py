"""Where a checkpoint comes from, and what model it is: plain JSON beside its arrays."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archobj_jax.architectures.architecture import (
    Architecture,
    CausalDecoder,
    EncoderDecoder,
    NonCausalDecoder,
)
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError
from archobj_jax.gin_text import bindings

if TYPE_CHECKING:
    # SeqIO, which the loader needs, imports TensorFlow; reading a checkpoint needs neither.
    from archobj_jax.data.loader import DatasetConfig

_ARCHITECTURES: Mapping[str, type[Architecture]] = {
    cls.__name__: cls for cls in (CausalDecoder, NonCausalDecoder, EncoderDecoder)
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a checkpoint's history; its lineage is the list of them, oldest first.

    Attributes:
      run: MODEL_DIR.
      stage: pretrain, adapt, finetune.
      architecture, objective: the paper's abbreviations.
      config, data: fingerprints of the operative gin and of the data.
      start_step: global step at which the stage began.
      schedule_start: global step at which its learning-rate schedule began.
      step: global step reached.
      tokens: tokens trained on in this stage, padding not counted.
      skipped_steps: steps left out since their loss or gradient was not finite.
    """

    run: str
    stage: str
    architecture: str
    objective: str
    config: str
    data: str
    start_step: int = 0
    schedule_start: int = 0
    step: int = 0
    tokens: float = 0.0
    skipped_steps: int = 0

    @property
    def pair(self) -> str:
        """Architecture and objective, as the paper writes them: `ND:MLM`."""
        return f"{self.architecture}:{self.objective}"

    def at(self, step: int, tokens: float, skipped_steps: int) -> "Stage":
        """The stage at a later step."""
        return dataclasses.replace(self, step=step, tokens=tokens, skipped_steps=skipped_steps)


def stages_of(about: Mapping[str, Any], *, where: str) -> tuple[Stage, ...]:
    """The lineage that was saved about a checkpoint; `where` names it in errors.

    Raises:
      UserError: there is none, or it has fields that are not known here.
    """
    records = about.get("lineage") or []
    known = {field.name for field in dataclasses.fields(Stage)}
    unknown = sorted({name for record in records for name in record} - known)
    if not records or unknown:
        what = f"fields {unknown} that are not known here" if unknown else "no stage"
        raise UserError(f"The lineage of {where} has {what}; another version wrote it.")
    return tuple(Stage(**record) for record in records)


def check_same_vocabulary(
    about: Mapping[str, Any], vocabulary: Mapping[str, str], *, where: str, advice: str
) -> None:
    """Checks that a checkpoint's token ids mean what the data's do.

    Args:
      about: what was saved about the checkpoint.
      vocabulary: "title" and "fingerprint" of the data's.
      where: begins the message: the binding and the checkpoint.
      advice: ends it.

    Raises:
      UserError: they do not.
    """
    there = about["model"]["vocabulary"]
    if there["fingerprint"] != vocabulary["fingerprint"]:
        raise UserError(
            f"{where} was trained with the vocabulary {there['title']} (fingerprint "
            f"{there['fingerprint']}), the data has {vocabulary['title']} (fingerprint "
            f"{vocabulary['fingerprint']}), so token ids would change their meaning. {advice}"
        )


def notation(stages: Sequence[Stage]) -> str:
    """The paper's notation, e.g. `CD:FLM (168B) → ND:MLM (51B) → ND:MTF (13B)`.

    Stages of the same pair one after another are one, with their tokens together.
    """
    parts = [
        f"{pair} ({counted(sum(stage.tokens for stage in group))})"
        for pair, group in itertools.groupby(stages, key=lambda stage: stage.pair)
    ]
    return " → ".join(parts)


def counted(tokens: float) -> str:
    """A number of tokens in three digits at most: `168B`, `1.3M`, `852`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if tokens >= 0.9995 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"


def model_record(
    model: Architecture, dataset: "DatasetConfig", *, vocabulary: Mapping[str, str]
) -> dict[str, Any]:
    """What one needs to use a checkpoint again: the model and its vocabulary, as JSON.

    `vocabulary` has the "title" and "fingerprint" of the data's.
    """
    return {
        "architecture": type(model).__name__,
        "network": dataclasses.asdict(model.network),
        "mixture_or_task_name": dataset.mixture_or_task_name,
        "mixture_or_task_module": dataset.module,
        "cache_dir": dataset.cache_dir,
        "vocabulary": dict(vocabulary),
    }


def recorded_model(record: Mapping[str, Any], *, where: str) -> Architecture:
    """The architecture of a `model_record`; `where` names the checkpoint in errors.

    Raises:
      UserError: the record names an architecture or a field that does not exist here.
    """
    name = record["architecture"]
    if name not in _ARCHITECTURES:
        raise UserError(f"{where} is of an unknown architecture '{name}'.")
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    if unknown := set(record["network"]) - known:
        raise UserError(f"{where} has network fields {sorted(unknown)} that are not known here.")
    return _ARCHITECTURES[name](NetworkConfig(**record["network"]))


def changed_bindings(before: str, now: str) -> list[str]:
    """What two operative configurations bind differently, as `name: before -> now`.

    Where a run lies and how long it is to train are left out.
    """
    old, new = bindings(before), bindings(now)
    return [
        f"{name}: {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in ("MODEL_DIR", "TRAIN_STEPS")
    ]
