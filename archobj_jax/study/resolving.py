"""What the gin files of a stage come to: its configuration, its data, what a step takes."""

import dataclasses
import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import seqio

from archobj_jax import config, gin_text
from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.parameters import parameter_infos
from archobj_jax.data import declaration, registry, vocabularies
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import MachineError, UnreachableError, UserError
from archobj_jax.evaluation.evaluate import SeqioTasks, evaluate
from archobj_jax.evaluation.harness_tasks import HarnessTasks
from archobj_jax.training import flops
from archobj_jax.training.train import train

EVALUATE = "t5x_configs/runs/evaluate.gin"

_PLACES = (
    "CACHE_DIR",
    "CHECKPOINT_PATH",
    "EVAL_OUTPUT_DIR",
    "INITIAL_CHECKPOINT_PATH",
    "MODEL_DIR",
    "TRAIN_STEPS",
    "train.train.compilation_cache_dir",
    "evaluate.evaluate.compilation_cache_dir",
)
"""What changes no figure: where things lie, and how long a stage is, which is told apart."""

_STEP = "adaptation.InitialCheckpoint.step"

_HARNESS = "HARNESS_TASKS need the extra `eval` (pip install 'archobj_jax[eval]')"

_SET_BY = {
    "train.train.total_steps": "TRAIN_STEPS",
    "train.train.random_seed": "RANDOM_SEED",
    "train.train.model_dir": "MODEL_DIR",
    "adaptation.InitialCheckpoint.path": "INITIAL_CHECKPOINT_PATH",
}

_DATASETS = {
    "dataset": "train_dataset",
    "train_eval": "train_eval_dataset",
    "infer_eval": "infer_eval_dataset",
}
"""Fields of `TrainedOn`, and the parameters of `train` that they are."""


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """What a training stage binds that a study must know."""

    model: Architecture
    dataset: DatasetConfig
    train_eval: DatasetConfig | None = None
    infer_eval: DatasetConfig | None = None

    @property
    def datasets(self) -> tuple[DatasetConfig, ...]:
        """All that it reads."""
        all_ = (self.dataset, self.train_eval, self.infer_eval)
        return tuple(each for each in all_ if each is not None)


@dataclasses.dataclass(frozen=True)
class EvaluatedOn:
    """What an evaluation binds that a study must know."""

    tasks: SeqioTasks
    harness: HarnessTasks = HarnessTasks()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A training stage without its place, its length and its parent.

    Attributes:
      config: the bindings, as gin text.
      data: fingerprint of what the data are made of.
      step_tokens: positions of a step, padding included.
      step_flops: operations of a step, attention and cross-attention included.
      parameters: of the model.
      by_name: data of which the fingerprint has only the name, and why.
      needs: what a machine must have to run it, and whether this one has.
    """

    config: str
    data: str
    step_tokens: int
    step_flops: float
    parameters: int
    by_name: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Suite:
    """An evaluation without its checkpoint; the fields are those of `Recipe`."""

    config: str
    data: str
    by_name: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, bool] = dataclasses.field(default_factory=dict)


@functools.cache
def recipe(gin_files: tuple[str, ...], bindings: tuple[str, ...], *, goes_on: bool) -> Recipe:
    """Reads the gin files of a training stage; reads no data.

    Args:
      gin_files: the experiment, and what is given after it.
      bindings: NAME=VALUE.
      goes_on: whether the stage starts from another's checkpoint.

    Raises:
      UserError: a mistake in the files or bindings.
    """
    places = ["MODEL_DIR=here", "TRAIN_STEPS=1"]
    if goes_on:
        places.append("INITIAL_CHECKPOINT_PATH=parent")
    config.parse(gin_files, [*places, *bindings], functions=[train])
    text = gin_text.without(config.bound_config_str(), _PLACES)
    bound = gin_text.bindings(text)
    for parameter, macro in _SET_BY.items():
        if bound.get(parameter, f"%{macro}") != f"%{macro}":
            raise UserError(
                f"{parameter} = {bound[parameter]}: a study sets it, by {macro}; leave it out."
            )
    if bound.get(_STEP, "'continue'") != "'continue'":
        raise UserError(
            f"{_STEP} = {bound[_STEP]}: a study counts steps on from stage to stage; expected "
            "'continue', or leave it out."
        )
    asked = ["resolving.TrainedOn.model=%MODEL"] + [
        f"resolving.TrainedOn.{name}={value}"
        for name, of_train in _DATASETS.items()
        if (value := bound.get(f"train.train.{of_train}")) is not None
    ]
    config.parse(gin_files, [*places, *bindings, *asked], functions=[train, TrainedOn])
    found = config.call(TrainedOn)
    declared = [
        _declared([dataset.mixture_or_task_name], dataset.module, dataset.split)
        for dataset in found.datasets
    ]
    by_name = {name: why for _, names in declared for name, why in names.items()}
    needs: dict[str, bool] = {}
    for dataset in found.datasets:
        needs |= _needs([dataset.mixture_or_task_name], dataset.module)
    tokens, operations, parameters = _step(found.model, found.dataset)
    data = _digest([made_of for made_of, _ in declared])
    return Recipe(text, data, tokens, operations, parameters, by_name, needs)


@functools.cache
def suite(gin_files: tuple[str, ...], bindings: tuple[str, ...]) -> Suite:
    """Reads the gin files of an evaluation; reads no data.

    Raises:
      UserError: a mistake in the files or bindings.
    """
    files, given = [EVALUATE, *gin_files], ["CHECKPOINT_PATH=parent", *bindings]
    config.parse(files, given, functions=[evaluate])
    text = gin_text.without(config.bound_config_str(), _PLACES)
    asked = [
        "resolving.EvaluatedOn.tasks=@evaluate.SeqioTasks()",
        "resolving.EvaluatedOn.harness=@harness_tasks.HarnessTasks()",
    ]
    config.parse(files, [*given, *asked], functions=[evaluate, EvaluatedOn])
    found = config.call(EvaluatedOn)
    made_of, by_name = _declared(found.tasks.names, found.tasks.module, found.tasks.split)
    needs = _needs(found.tasks.names, found.tasks.module)
    if found.harness.all_names:  # in the configuration
        by_name["of HARNESS_TASKS"] = "on every machine: they are what its lm_eval has"
        needs[_HARNESS] = importlib.util.find_spec("lm_eval") is not None
    return Suite(text, _digest(made_of), by_name, needs)


def _declared(
    names: Sequence[str], module: registry.Modules, split: str
) -> tuple[list[Any], dict[str, str]]:
    """What tasks are made of, as their caches have it; and what is by name only, and why.

    Names that are registered only where something is set are always by name, there too: a study is
    the same on all machines.

    Raises:
      UserError: there is no task of that name, or none with the split.
    """
    made_of: list[Any] = []
    by_name: dict[str, str] = {}
    for name in names:
        if registry.needed(name, module):
            made_of.append(name)
            by_name[name] = "on every machine"  # why is told of what is needed
            continue
        provider = registry.find(name, module)
        try:
            rates = registry.tasks(provider, split)
        except (UnreachableError, MachineError) as error:  # of rates that count examples
            made_of.append(name)
            by_name[name] = f"here, and differ where they can be read: {error}"
            continue
        made_of += [[task.name, rate, _made_of(task)] for task, rate in rates.items()]
    return made_of, by_name


def _needs(names: Sequence[str], module: registry.Modules) -> dict[str, bool]:
    """What must be set for tasks to be registered, and whether it is here."""
    return {
        needed.rstrip("."): registry.registered(name, module)
        for name in names
        if (needed := registry.needed(name, module))
    }


def _digest(made_of: list[Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _made_of(task: seqio.Task) -> list[Any]:
    """What a task's cache is made of and its objective; of a task that is only ranked, its source.

    The names of such a task's choices and prompts are its source's.
    """
    if task.name.endswith(registry.RANKED):
        source = task.source
        declared = source.declaration() if hasattr(source, "declaration") else repr(type(source))
        return [declared, vocabularies.declaration(registry.vocabulary(task))]
    return [declaration.declare(task), repr(registry.objective(task))]


@functools.cache
def _infos(model: Architecture) -> tuple[Any, ...]:
    return tuple(parameter_infos(model.abstract()))


def _step(model: Architecture, dataset: DatasetConfig) -> tuple[int, float, int]:
    """Positions and operations of a step, and the parameters."""
    batch = {
        name: jax.ShapeDtypeStruct((dataset.batch_size, *shape), dtype)
        for name, (shape, dtype) in model.layout.spec(dataset.task_feature_lengths).items()
    }
    infos = _infos(model)
    forward = flops.batch_flops(model.network, infos, batch)
    return flops.positions(batch), flops.train_flops(forward), sum(info.size for info in infos)
