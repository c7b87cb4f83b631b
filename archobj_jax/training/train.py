"""`archobj train`: checks the configuration, restores or makes a train state, and runs."""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable, Mapping

import jax
from etils import epath

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data import loader
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import UserError
from archobj_jax.hosts.order import first_process_first, meet
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import compilation, restoring
from archobj_jax.training.adaptation import Adaptation, InitialCheckpoint
from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.evaluation import Evaluation
from archobj_jax.training.goodput import Goodput
from archobj_jax.training.lineage import (
    Stage,
    changed_bindings,
    check_same_vocabulary,
    model_record,
    stages_of,
)
from archobj_jax.training.loop import Start, TrainingLoop
from archobj_jax.training.model_info import model_info
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.reporting import Report, is_evaluated, write_text
from archobj_jax.training.restoring import Restored
from archobj_jax.training.state import TrainState
from archobj_jax.training.trainer import Trainer

CONFIG_FILE = "config.gin"
INFO_FILE = "model-info.txt"
DATA_FILE = "data-info.txt"


def train(
    *,
    model: Architecture,
    model_dir: str,
    train_dataset: DatasetConfig,
    train_eval_dataset: DatasetConfig | None = None,
    infer_eval_dataset: DatasetConfig | None = None,
    trainer: Trainer,
    partitioner: Partitioner = Partitioner(),
    checkpoint: SaveCheckpointConfig = SaveCheckpointConfig(),
    initial_checkpoint: InitialCheckpoint | None = None,
    total_steps: int,
    eval_period: int = 1000,
    eval_steps: int | None = None,
    stats_period: int = 100,
    random_seed: int = 0,
    stage: str = "pretrain",
    compilation_cache_dir: str | None = compilation.DEFAULT_CACHE_DIR,
    operative_config: Callable[[], str] = lambda: "",
    dry_run: bool = False,
) -> None:
    """Trains until `total_steps`, going on from the newest checkpoint in `model_dir` if any.

    Without one it starts from `initial_checkpoint`, or from scratch.

    Args:
      model: architecture and network.
      model_dir: the run's folder, local or gs://.
      train_dataset: what to train on.
      train_eval_dataset: for held-out loss and accuracy; None for neither.
      infer_eval_dataset: tasks that are ranked or have metric functions; None for none.
      trainer: optimizer, schedule, loss, microbatches.
      partitioner: the mesh.
      checkpoint: when to save, what to keep.
      initial_checkpoint: another run's, to adapt or finetune.
      total_steps: the last step, counted as `initial_checkpoint.step` says.
      eval_period: steps between evaluations; there is one after the last step too, and one before
        the first if there is an initial checkpoint.
      eval_steps: batches of each task in an evaluation; None is all.
      stats_period: steps between records in metrics.jsonl.
      random_seed: of parameters and dropout; data has its own.
      stage: pretrain, adapt or finetune, for the lineage; one MODEL_DIR holds one stage.
      compilation_cache_dir: where compiled steps are kept between runs; None keeps none.
      operative_config: returns the gin text to keep with the run.
      dry_run: prints what the run would be; reads no text and writes nothing.

    Raises:
      UserError: the configuration cannot work; says which binding. Or a loss was not finite.
      MachineError: a checkpoint or a record of the data is damaged, or a write failed.
      SystemExit: with `errors.PREEMPTED`, after SIGTERM and a save.
    """
    begun = time.time()
    for name, value in {
        "total_steps": total_steps, "eval_period": eval_period, "stats_period": stats_period
    }.items():  # fmt: skip
        if value < 1:
            raise UserError(f"train.{name} = {value}: must be at least 1.")
    compilation.use_cache(compilation_cache_dir)
    mesh = partitioner.planned_mesh() if dry_run else partitioner.mesh()
    rules = partitioner.logical_axis_rules(mesh)
    prepared = PreparedStep.of(model, train_dataset, trainer, rules)
    blueprint = prepared.blueprint
    info = model_info(prepared)
    config = operative_config()
    if dry_run:
        for dataset in (train_dataset, train_eval_dataset):
            if dataset is not None:
                loader.check_names(dataset)
        print(f"{config}\n{info}", end="")
        if initial_checkpoint is not None and initial_checkpoint.path:
            planned = Adaptation.of(initial_checkpoint, blueprint, trainer)
            planned.check_steps(total_steps)
            print(planned.summary())
        return
    with first_process_first("load the vocabulary"):
        vocabulary = loader.vocabulary(train_dataset)
    adapted = None
    if initial_checkpoint is not None and not restoring.has_checkpoint(model_dir):
        adapted = Adaptation.of(initial_checkpoint, blueprint, trainer, vocabulary=vocabulary)
        adapted.check_steps(total_steps)
    with first_process_first("cache the data"):
        data = loader.describe(train_dataset, model.layout)
        _check_room_for_vocabulary(model, train_dataset, data)
        evaluation = Evaluation.of(
            blueprint,
            trainer,
            train_eval=train_eval_dataset,
            infer_eval=infer_eval_dataset,
            period=eval_period,
            num_batches=eval_steps,
        )
    stage_here = Stage(
        run=model_dir,
        stage=stage,
        architecture=model.symbol,
        objective="+".join(data.objectives),
        config=hashlib.sha256(config.encode()).hexdigest()[:16],
        data=data.fingerprint,
    )
    with Checkpoints(model_dir, checkpoint) as checkpoints:
        start = _start(
            checkpoints, prepared.state, stage_here, config, vocabulary,
            adapted=adapted,
            seed=random_seed,
            fresh=lambda: blueprint.init(trainer.transform(blueprint), random_seed),
        )  # fmt: skip
        _write_description(model_dir, {CONFIG_FILE: config, INFO_FILE: info, DATA_FILE: data.info})
        record = model_record(model, train_dataset, vocabulary=vocabulary)
        loop = TrainingLoop(
            prepared=prepared,
            evaluation=evaluation,
            checkpoints=checkpoints,
            save_period=checkpoint.period,
            stats_period=stats_period,
            total_steps=total_steps,
            start=start,
            about={"config": config, "model": record},
            goodput=Goodput(model_dir, start.stage.step, begun),
        )
        step = start.stage.step
        with Report(
            model_dir, start_step=step, total_steps=total_steps, resumed=start.resumed
        ) as report:
            if step >= total_steps:
                loop.make_up_evaluation(report)
                report.say(f"{model_dir} is at step {step:,} already; raise TRAIN_STEPS to go on.")
                return
            report.say(f"Compiling the train step of {blueprint.parameter_count:,} parameters.")
            with loop.goodput.spending("start"):
                train_step = prepared.compiled(
                    random_seed, schedule_start=start.stage.schedule_start
                )
                meet("compile the train step")
            with loader.train_batches(
                train_dataset, model.layout, start_step=step, local_rows=prepared.placement.rows
            ) as batches:
                loop.execute(train_step, batches, report)


def _check_room_for_vocabulary(
    model: Architecture, config: DatasetConfig, data: loader.Description
) -> None:
    if data.vocab_size > model.network.vocab_size:
        raise UserError(
            f"NetworkConfig.vocab_size = {model.network.vocab_size} is smaller than the vocabulary "
            f"of {config.mixture_or_task_name}, {data.vocab_size}; use "
            f"{-(-data.vocab_size // 128) * 128}."
        )
    if model.network.vocab_size >= data.vocab_size + 128:
        _say(
            f"NetworkConfig.vocab_size = {model.network.vocab_size} (VOCAB_SIZE) is far more than "
            f"the {data.vocab_size} ids of {config.mixture_or_task_name}; "
            f"{-(-data.vocab_size // 128) * 128} would do."
        )


def _start(
    checkpoints: Checkpoints,
    abstract: TrainState,
    stage: Stage,
    config: str,
    vocabulary: Mapping[str, str],
    *,
    adapted: Adaptation | None,
    seed: int,
    fresh: Callable[[], TrainState],
) -> Start:
    """Restore precedence: 1. this run's newest intact checkpoint; 2. another's; 3. from scratch."""
    restored = checkpoints.restore_latest(abstract)
    if restored is not None:
        return _resumed(restored, stage, config, vocabulary)
    if adapted is None:
        return Start(fresh(), stage)
    _say(adapted.summary())
    step = adapted.start_step
    stage = dataclasses.replace(
        stage, start_step=step, step=step, schedule_start=adapted.schedule_start
    )
    return Start(adapted.state(seed), stage, adapted.ancestors)


def _resumed(restored: Restored, stage: Stage, config: str, vocabulary: Mapping[str, str]) -> Start:
    where = f"MODEL_DIR: {restored.path}"
    *ancestors, before = stages_of(restored.about, where=where)
    if (before.stage, before.pair) != (stage.stage, stage.pair):
        raise UserError(
            f"{where} is of another stage, {before.stage} {before.pair}, than "
            f"this run, {stage.stage} {stage.pair}. Name another MODEL_DIR; to start from that "
            "checkpoint, name it as INITIAL_CHECKPOINT_PATH."
        )
    check_same_vocabulary(
        restored.about,
        vocabulary,
        where=where,
        advice="Name another MODEL_DIR, or that vocabulary.",
    )
    _say(f"Going on from {restored.path.name}.")
    if before.data != stage.data:
        _say(
            "The data is not what it was trained on (task, lengths, batch size, seed or text): it "
            "goes on, but no longer as the run that was begun."
        )
    changed = changed_bindings(restored.about["config"], config)
    begun = [each for each in changed if "INITIAL_CHECKPOINT" in each or "InitialCheck" in each]
    if begun:
        _say("Without effect, since the stage has begun: " + "; ".join(begun))
    if others := [each for each in changed if each not in begun]:
        _say("Bound otherwise now: " + "; ".join(others))
    before = dataclasses.replace(before, run=stage.run, config=stage.config, data=stage.data)
    due = restored.about.get("evaluation_due", False) and not is_evaluated(stage.run, before.step)
    return Start(restored.state, before, tuple(ancestors), resumed=True, evaluation_due=due)


def _write_description(model_dir: str, files: Mapping[str, str]) -> None:
    if jax.process_index() == 0:
        for name, text in files.items():
            write_text(epath.Path(model_dir) / name, text)


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)
