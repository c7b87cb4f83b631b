"""`archobj train`: restores or makes a train state, and runs steps until the last."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging
from etils import epath

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.data import loader
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.errors import PREEMPTED, UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import compilation, evaluation, flops
from archobj_jax.training.checkpoints import Checkpoints, SaveCheckpointConfig
from archobj_jax.training.lineage import Stage, model_record
from archobj_jax.training.meter import Meter, NonFiniteError
from archobj_jax.training.model_info import model_info
from archobj_jax.training.placement import Placement
from archobj_jax.training.reporting import Report, write_text
from archobj_jax.training.state import Blueprint, TrainState
from archobj_jax.training.termination import Termination
from archobj_jax.training.trainer import Trainer

CONFIG_FILE = "config.gin"
INFO_FILE = "model-info.txt"


def train(
    *,
    model: Architecture,
    model_dir: str,
    train_dataset: DatasetConfig,
    train_eval_dataset: DatasetConfig | None = None,
    trainer: Trainer,
    partitioner: Partitioner = Partitioner(),
    checkpoint: SaveCheckpointConfig = SaveCheckpointConfig(),
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

    Args:
      model: architecture and network.
      model_dir: the run's folder, local or gs://.
      train_dataset: what to train on.
      train_eval_dataset: held-out data; None evaluates nothing.
      trainer: optimizer, schedule, loss, microbatches.
      partitioner: the mesh.
      checkpoint: when to save, what to keep.
      total_steps: the last step.
      eval_period: steps between evaluations; there is one after the last step too.
      eval_steps: batches of each task in an evaluation; None is all.
      stats_period: steps between records in metrics.jsonl.
      random_seed: of parameters and dropout; data has its own.
      stage: pretrain, adapt or finetune, for the lineage.
      compilation_cache_dir: where compiled steps are kept between runs; None keeps none.
      operative_config: returns the gin text to keep with the run.
      dry_run: prints what the run would be; reads no data and writes nothing.

    Raises:
      UserError: the configuration cannot work; says which binding. Or a loss was not finite.
      MachineError: a checkpoint or a record of the data is damaged, or a write failed.
      SystemExit: with `errors.PREEMPTED`, after SIGTERM and a save.
    """
    periods = {"total_steps": total_steps, "eval_period": eval_period, "stats_period": stats_period}
    for name, value in periods.items():
        if value < 1:
            raise UserError(f"train.{name} = {value}: must be at least 1.")
    compilation.use_cache(compilation_cache_dir)
    mesh = partitioner.planned_mesh() if dry_run else partitioner.mesh()
    rules = partitioner.logical_axis_rules(mesh)
    blueprint = Blueprint.of(model, rules)
    placement = Placement.of(rules, train_dataset.batch_size)
    placement.check_microbatches(trainer.num_microbatches)
    abstract_batch = placement.abstract(model.layout, train_dataset.task_feature_lengths)
    abstract_state = blueprint.abstract_state(trainer.transform(blueprint))
    info = model_info(blueprint, abstract_state, abstract_batch)
    config = operative_config()
    if dry_run:
        print(f"{config}\n{info}", end="")
        return
    data = loader.describe(train_dataset, model.layout)
    if data.vocab_size > model.network.vocab_size:
        raise UserError(
            f"NetworkConfig.vocab_size = {model.network.vocab_size} is smaller than the vocabulary "
            f"of {train_dataset.mixture_or_task_name}, {data.vocab_size}; use "
            f"{-(-data.vocab_size // 128) * 128}."
        )
    if train_eval_dataset is None:
        held_out = None
    else:
        held_out = HeldOut.of(train_eval_dataset, blueprint, trainer, eval_steps, eval_period)
    lineage = Stage(
        run=model_dir,
        stage=stage,
        architecture=model.symbol,
        objective="+".join(data.objectives),
        config=hashlib.sha256(config.encode()).hexdigest()[:16],
        data=data.fingerprint,
    )
    with Checkpoints(model_dir, checkpoint) as checkpoints:
        # Restore precedence: 1. this run's newest intact checkpoint; 2. from scratch.
        restored = checkpoints.restore_latest(abstract_state)
        if restored is not None:
            logging.info("Going on from %s.", restored.path)
            state, before = restored.state, restored.about["lineage"][-1]
            lineage = lineage.at(before["step"], before["tokens"], before["skipped_steps"])
        else:
            state = blueprint.init(trainer.transform(blueprint), random_seed)
        if jax.process_index() == 0:
            write_text(epath.Path(model_dir) / CONFIG_FILE, config)
            write_text(epath.Path(model_dir) / INFO_FILE, info)
        run = Run(
            blueprint=blueprint,
            trainer=trainer,
            placement=placement,
            held_out=held_out,
            checkpoints=checkpoints,
            save_period=checkpoint.period,
            stats_period=stats_period,
            total_steps=total_steps,
            stage=lineage,
            about={"config": config, "model": model_record(model, train_dataset)},
        )
        start = lineage.step
        with Report(model_dir, start_step=start, total_steps=total_steps) as report:
            if start >= total_steps:
                report.say(f"{model_dir} is at step {start:,} already; raise TRAIN_STEPS to go on.")
                return
            report.say(f"Compiling the train step of {blueprint.parameter_count:,} parameters.")
            step = compilation.compile_step(
                trainer.train_step(blueprint, random_seed), abstract_state, abstract_batch
            )
            with loader.train_batches(
                train_dataset, model.layout, start_step=start, local_rows=placement.rows
            ) as batches:
                run.execute(state, step, batches, run.meter(abstract_batch), report)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out batches, and what evaluates them."""

    batches: Mapping[str, loader.EvalBatches]
    placement: Placement
    step: Callable
    period: int

    @classmethod
    def of(
        cls,
        config: DatasetConfig,
        blueprint: Blueprint,
        trainer: Trainer,
        steps: int | None,
        period: int,
    ) -> "HeldOut":
        """Opens the held-out split, `steps` batches of each task."""
        placement = Placement.of(blueprint.rules, config.batch_size)
        batches = loader.eval_batches(
            config,
            blueprint.architecture.layout,
            local_rows=placement.rows,
            num_batches=steps,
        )
        return cls(batches, placement, jax.jit(trainer.eval_step(blueprint)), period)

    def evaluate(self, state: TrainState) -> dict[str, dict[str, float]]:
        """Loss and accuracy by task."""
        return evaluation.evaluate(self.step, state.params, self.batches, self.placement)


@dataclasses.dataclass(frozen=True)
class Run:
    """The loop, and what it calls between steps: records, evaluations, saves."""

    blueprint: Blueprint
    trainer: Trainer
    placement: Placement
    held_out: HeldOut | None
    checkpoints: Checkpoints
    save_period: int
    stats_period: int
    total_steps: int
    stage: Stage
    about: Mapping[str, Any]

    def meter(self, batch: Mapping[str, Any]) -> Meter:
        """A meter that knows the operations of a step and what the devices can do."""
        source = batch.get("encoder_input_tokens")
        forward = flops.forward_flops(
            self.blueprint.architecture.network,
            self.blueprint.infos,
            rows=self.placement.batch_size,
            target_length=batch["decoder_input_tokens"].shape[1],
            source_length=0 if source is None else source.shape[1],
        )
        peak, _ = flops.device_peak(jax.local_devices()[0])
        return Meter(
            step_flops=flops.train_flops(forward),
            peak_flops=peak * jax.device_count(),
            tokens=self.stage.tokens,
            skipped_steps=self.stage.skipped_steps,
            stop_on_nonfinite=self.trainer.on_nonfinite == "stop",
        )

    def execute(
        self,
        state: TrainState,
        step: Callable,
        batches: loader.Batches,
        meter: Meter,
        report: Report,
    ) -> None:
        """Runs the steps that are left; evaluates and saves before the next batch is taken."""
        try:
            with Termination() as termination:
                for number in range(self.stage.step + 1, self.total_steps + 1):
                    with meter.waiting_for_input():
                        batch = self.placement.put(next(batches))
                    with jax.transfer_guard("disallow"):
                        state, metrics = step(state, batch)
                    meter.add(number, metrics)
                    stopping = termination.requested(number)
                    self._between_steps(number, state, meter, report, stopping=stopping)
                    if stopping:
                        self.checkpoints.wait()
                        report.say(f"Stopped by SIGTERM; saved at step {number:,}.")
                        raise SystemExit(PREEMPTED)
                self.checkpoints.wait()
        except NonFiniteError as error:
            self.checkpoints.wait()
            raise UserError(self._nonfinite_message(error.step)) from error

    def _between_steps(
        self, number: int, state: TrainState, meter: Meter, report: Report, *, stopping: bool
    ) -> None:
        last = number == self.total_steps
        if number % self.stats_period == 0 or last:
            record = meter.record()
            record["save_blocked_seconds"] = self.checkpoints.blocked_seconds
            record["save_write_seconds"] = self.checkpoints.write_seconds
            report.record(number, record)
            speed = f"loss {record['loss']:.4f}, {record['tokens_per_second']:,.0f} tokens/s"
            report.progress(number, speed, force=last)
        else:
            report.progress(number, "" if meter.loss is None else f"loss {meter.loss:.4f}")
        loss = None
        if self.held_out and (number % self.held_out.period == 0 or last):
            with meter.paused():
                results = self.held_out.evaluate(state)
            loss = evaluation.mean_loss(results)
            for task, values in results.items():
                report.record(number, {f"eval/{task}/{k}": v for k, v in values.items()})
                report.say(
                    f"step {number:,}  held-out {task}: loss {values['loss']:.4f}, "
                    f"accuracy {values['accuracy']:.3f}"
                )
        if number % self.save_period == 0 or last or stopping:
            with meter.paused():
                report.flush()
                stage = self.stage.at(number, meter.tokens, meter.skipped_steps)
                about = {**self.about, "lineage": [dataclasses.asdict(stage)]}
                self.checkpoints.save(state, about, loss=loss)

    def _nonfinite_message(self, step: int) -> str:
        steps = self.checkpoints.steps()
        newest = f"the newest checkpoint is of step {steps[-1]:,}" if steps else "none was saved"
        return (
            f"The loss or gradient of step {step:,} (batch {step - 1:,} of the data) is not "
            f"finite; {newest}. Lower the learning rate or lengthen the warm-up and run again, or set "
            "Trainer.on_nonfinite = 'skip' to leave such steps out."
        )
