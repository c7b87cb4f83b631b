"""The training loop: steps, and between them records, evaluations and saves."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from archobj_jax.data import loader
from archobj_jax.errors import UserError
from archobj_jax.hosts.activity import ACTIVITY
from archobj_jax.training import flops
from archobj_jax.training.checkpoints import Checkpoints
from archobj_jax.training.evaluation import Evaluation
from archobj_jax.training.goodput import Goodput
from archobj_jax.training.lineage import Stage
from archobj_jax.training.meter import Meter, NonFiniteError
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.reporting import Report
from archobj_jax.training.state import TrainState
from archobj_jax.training.termination import Termination

_PERCENT = ("/accuracy", "/chance")
"""Metrics of SeqIO's tasks that are percentages; our own accuracies are shares."""

_LINES = 12
"""Values of an evaluation that are told one by one."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
      state: the first step is made from it; it is donated.
      stage: the stage so far.
      ancestors: the stages before, oldest first.
      resumed: whether the stage was begun before.
      evaluation_due: whether it was told to stop at a step that is to be evaluated, and saved
        before it could be.
    """

    state: TrainState
    stage: Stage
    ancestors: tuple[Stage, ...] = ()
    resumed: bool = False
    evaluation_due: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingLoop:
    """The loop, and what it calls between steps: records, evaluations, saves."""

    prepared: PreparedStep
    evaluation: Evaluation
    checkpoints: Checkpoints
    save_period: int
    stats_period: int
    total_steps: int
    start: Start
    about: Mapping[str, Any]
    goodput: Goodput

    def _meter(self) -> Meter:
        peak, _ = flops.device_peak(jax.local_devices()[0])
        return Meter(
            step_flops=self.prepared.flops(),
            peak_flops=peak * jax.device_count(),
            tokens=self.start.stage.tokens,
            skipped_steps=self.start.stage.skipped_steps,
            stop_on_nonfinite=self.prepared.trainer.on_nonfinite == "stop",
        )

    def execute(self, step: Callable, batches: loader.Batches, report: Report) -> None:
        """Runs the steps that are left; evaluates and saves before the next batch is taken.

        A stage that begins from another's checkpoint is evaluated before its first step.
        """
        state, meter = self.start.state, self._meter()
        try:
            with Termination() as termination:
                if (self.start.ancestors and not self.start.resumed) or self.start.evaluation_due:
                    self._evaluate(self.start.stage.step, state, meter, report)
                for number in range(self.start.stage.step + 1, self.total_steps + 1):
                    ACTIVITY.at(number)
                    with meter.waiting_for_input():
                        batch = self.prepared.placement.put(next(batches))
                    with jax.transfer_guard("disallow"):
                        state, metrics = step(state, batch)
                    meter.add(number, metrics)
                    stopping = termination.requested(number)
                    self._between_steps(number, state, meter, report, stopping=stopping)
                    if stopping:
                        self.checkpoints.wait()
                        report.say(f"Stopped by {termination.reason}; saved at step {number:,}.")
                        raise SystemExit(termination.status)
                self.checkpoints.wait()
                self.goodput.finish()
        except NonFiniteError as error:
            self.checkpoints.wait()
            raise UserError(self._nonfinite_message(error.step)) from error

    def make_up_evaluation(self, report: Report) -> None:
        """Evaluates the step that the run is at, if it ended before it could."""
        if self.start.evaluation_due:
            self._evaluate(self.start.stage.step, self.start.state, self._meter(), report)

    def _between_steps(
        self, number: int, state: TrainState, meter: Meter, report: Report, *, stopping: bool
    ) -> None:
        last = number == self.total_steps
        if number % self.stats_period == 0 or last:
            record = meter.record()
            self.goodput.add(steps=meter.working, waited=meter.waiting)
            record |= self.goodput.record()
            record["save_blocked_seconds"] = self.checkpoints.blocked_seconds
            record["save_write_seconds"] = self.checkpoints.write_seconds
            report.record(number, record)
            speed = f"loss {record['loss']:.4f}, {record['tokens_per_second']:,.0f} tokens/s"
            report.progress(number, speed, force=last)
        else:
            report.progress(number, "" if meter.loss is None else f"loss {meter.loss:.4f}")
        loss = None
        evaluates = not self.evaluation.is_empty and (number % self.evaluation.period == 0 or last)
        if stopping:  # there may be little time: what is evaluated after it is not its loss
            self._save(number, state, meter, report, evaluation_due=evaluates)
        if evaluates:
            loss = self._evaluate(number, state, meter, report)
        if not stopping and (number % self.save_period == 0 or last):
            self._save(number, state, meter, report, loss)

    def _save(
        self,
        number: int,
        state: TrainState,
        meter: Meter,
        report: Report,
        loss: float | None = None,
        *,
        evaluation_due: bool = False,
    ) -> None:
        steps, waited = meter.claim()
        self.goodput.add(steps=steps, waited=waited)
        self.goodput.saving(number)
        with meter.paused(), self.goodput.spending("saving"):
            report.flush()
            stage = self.start.stage.at(number, meter.tokens, meter.skipped_steps)
            lineage = [dataclasses.asdict(each) for each in (*self.start.ancestors, stage)]
            about = {**self.about, "lineage": lineage, "evaluation_due": evaluation_due}
            self.checkpoints.save(state, about, loss=loss)

    def _evaluate(
        self, number: int, state: TrainState, meter: Meter, report: Report
    ) -> float | None:
        """Records and tells the evaluation after step `number`; returns the mean held-out loss."""
        with meter.paused(), self.goodput.spending("evaluation"):
            values, loss = self.evaluation.evaluate(state.params, number)
        if values:
            report.record(number, values)
        for name, value in told(values).items():
            percent = name.startswith("infer_eval/") and name.split()[0].endswith(_PERCENT)
            report.say(f"step {number:,}  {name} {value:.4f}{' %' if percent else ''}")
        return loss

    def _nonfinite_message(self, step: int) -> str:
        steps = self.checkpoints.steps()
        newest = f"the newest checkpoint is of step {steps[-1]:,}" if steps else "none was saved"
        return (
            f"The loss or gradient of step {step:,} (batch {step - 1:,} of the data) is not "
            f"finite; {newest}. Lower the learning rate or lengthen the warm-up and run again, or "
            "set Trainer.on_nonfinite = 'skip' to leave such steps out."
        )


def told(values: Mapping[str, float]) -> dict[str, float]:
    """Of `<kind>/<task>/<name>` what is worth a line each: all, or of many tasks their means."""
    kept = {
        name: value
        for name, value in values.items()
        if name.rpartition("/")[2] not in ("z_loss", "target_tokens", "examples")
    }
    if len(kept) <= _LINES:
        return kept
    groups: dict[str, list[float]] = {}
    for name, value in kept.items():
        kind, _, rest = name.partition("/")
        groups.setdefault(f"{kind}/*/{rest.rpartition('/')[2]}", []).append(value)
    return {
        f"{name} (mean of {len(found)} tasks)": sum(found) / len(found)
        for name, found in groups.items()
    }
