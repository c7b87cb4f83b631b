"""A little library for gin to bind: what tests of the configuration build and call."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from archobj_jax.errors import UserError


class Layer(Protocol):
    def __call__(self, x: float) -> float: ...


class Objective:
    pass


@dataclasses.dataclass(frozen=True)
class FullLm(Objective):
    pass


@dataclasses.dataclass(frozen=True)
class SpanCorruption(Objective):
    noise_density: float = 0.15


@dataclasses.dataclass(frozen=True)
class Data:
    task: str
    lengths: Mapping[str, int]
    batch_size: int = 8
    shuffle: bool = True


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float | None = 1e-3
    kind: Literal["adamw", "adafactor"] = "adamw"


def rectify(x: float, floor: float = 0.0) -> float:
    return max(x, floor)


def train(
    model_dir: str,
    data: Data,
    objective: Objective,
    total_steps: int = 10,
    optimizer: Optimizer | None = None,
    activation: Callable[[float], float] = rectify,
    eval_data: Data | None = None,
    sizes: Sequence[int] = (),
) -> dict[str, object]:
    return dict(locals())


def dry_run(data: Data) -> Data:
    return data


def fail(status: int = 1) -> None:
    raise UserError(f"status {status} is not for tests")


NOT_CALLABLE = 3
