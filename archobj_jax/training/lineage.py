"""Where a checkpoint comes from, and what model it is: plain JSON beside its arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from archobj_jax.architectures.architecture import (
    Architecture,
    CausalDecoder,
    EncoderDecoder,
    NonCausalDecoder,
)
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError

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
    step: int = 0
    tokens: float = 0.0
    skipped_steps: int = 0

    def at(self, step: int, tokens: float, skipped_steps: int) -> "Stage":
        """The stage at a later step."""
        return dataclasses.replace(self, step=step, tokens=tokens, skipped_steps=skipped_steps)


def model_record(model: Architecture, dataset: DatasetConfig) -> dict[str, Any]:
    """What one needs to use a checkpoint again: the model and its vocabulary, as JSON."""
    return {
        "architecture": type(model).__name__,
        "network": dataclasses.asdict(model.network),
        "mixture_or_task_name": dataset.mixture_or_task_name,
        "mixture_or_task_module": dataset.module,
        "cache_dir": dataset.cache_dir,
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
    old, new = _bindings(before), _bindings(now)
    return [
        f"{name}: {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in ("MODEL_DIR", "TRAIN_STEPS")
    ]


def _bindings(config: str) -> dict[str, str]:
    """Values by name of an operative configuration, which has continuation lines indented."""
    bindings: dict[str, str] = {}
    name = ""
    for line in config.splitlines():
        if line.startswith(" ") and name:
            bindings[name] += line.strip()
        elif "=" in line and not line.startswith("#"):
            name, _, value = (part.strip() for part in line.partition("="))
            bindings[name] = value.rstrip("\\")
    return bindings
