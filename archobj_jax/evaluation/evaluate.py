"""`archobj evaluate`: a checkpoint on SeqIO tasks and on the harness's, into one results file."""

import dataclasses
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import jax
from etils import epath

from archobj_jax import gin_text, native_messages
from archobj_jax.architectures.architecture import Architecture
from archobj_jax.errors import UserError
from archobj_jax.evaluation import lm_eval
from archobj_jax.evaluation.aggregation import Aggregation, evaluation_results
from archobj_jax.evaluation.harness_tasks import HarnessTasks
from archobj_jax.evaluation.results import Checkpoint, Lineage, TaskResult
from archobj_jax.evaluation.statistics import Bootstrap, OverPrompts
from archobj_jax.evaluation.tables import results_table
from archobj_jax.inference.journal import Journal, fingerprint
from archobj_jax.inference.predictor import BATCH_TOKENS, Predictor
from archobj_jax.inference.runner import Runner
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import compilation, lineage, restoring

if TYPE_CHECKING:
    from archobj_jax.evaluation.seqio_evaluation import SeqioEvaluation

_PACKAGES = ("archobj_jax", "jax", "jaxlib", "flax", "seqio", "sentencepiece", "numpy", "lm_eval")
_PLACES = ("CHECKPOINT_PATH", "EVAL_OUTPUT_DIR")


@dataclasses.dataclass(frozen=True)
class SeqioTasks:
    """SeqIO tasks to evaluate.

    Those with answer choices are ranked, those with metric functions get their metrics, and of
    others it is the loss.

    Attributes:
      mixture_or_task_name: a task or mixture, or several.
      module: Python modules that register them.
      split: of each of them.
      task_feature_lengths: tokens of inputs and of targets at most; what is longer is cut.
      num_examples: of each task, the first; None for all.
      unconditional: whether choices are scored without their inputs too.
      data_sets: that the mean is to be over; those of which there is no task are told as missing.
    """

    mixture_or_task_name: str | Sequence[str] = ()
    module: str | Sequence[str] | None = None
    split: str = "validation"
    task_feature_lengths: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"inputs": 1024, "targets": 256}
    )
    num_examples: int | None = None
    unconditional: bool = True
    data_sets: Sequence[str] = ()

    def __post_init__(self) -> None:
        lengths = dict(self.task_feature_lengths)
        if set(lengths) != {"inputs", "targets"} or min(lengths.values()) < 1:
            raise UserError(
                f"TASK_FEATURE_LENGTHS = {lengths}: evaluation needs a positive one for 'inputs' "
                "and for 'targets'."
            )
        if self.num_examples is not None and self.num_examples < 1:
            raise UserError(f"NUM_EXAMPLES = {self.num_examples}: must be at least 1, or None.")

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks and mixtures."""
        given = self.mixture_or_task_name
        return (given,) if isinstance(given, str) else tuple(given)


def evaluate(
    *,
    checkpoint_path: str,
    seqio_tasks: SeqioTasks = SeqioTasks(),
    harness_tasks: HarnessTasks = HarnessTasks(),
    output_dir: str | None = None,
    name: str | None = None,
    over_prompts: OverPrompts = "median",
    batch_tokens: int = BATCH_TOKENS,
    partitioner: Partitioner = Partitioner(),
    model: Architecture | None = None,
    cache_dir: str | None = None,
    random_seed: int = 0,
    resamples: int = 1000,
    compilation_cache_dir: str | None = compilation.DEFAULT_CACHE_DIR,
    operative_config: Callable[[], str] = lambda: "",
) -> None:
    """Evaluates a checkpoint and writes `<output_dir>/<name>.json`; prints it as a table.

    Args:
      checkpoint_path: of a run (its newest checkpoint) or of a checkpoint.
      seqio_tasks, harness_tasks: what to evaluate on.
      output_dir: None is `evaluation/checkpoint_<step>` in the run's folder. What is done is kept
        there too, so that the same command goes on after a kill.
      name: of the results file; made of the tasks' names by default. Where only the first examples
        are evaluated, it says how many.
      over_prompts: how the figures of a data set's prompts become one.
      batch_tokens: about how many tokens a device reads at a time.
      partitioner: the mesh, over all devices.
      model: what the checkpoint is expected to be; None takes what it is.
      cache_dir: where the vocabulary lies if it is one that is made there.
      random_seed: of the intervals.
      resamples: of the bootstrap.
      compilation_cache_dir: keeps compiled programs; None keeps none.
      operative_config: the configuration as gin text.

    Raises:
      UserError: nothing to evaluate, no checkpoint, another model; or, after all others are done
        and written, a task that cannot be evaluated.
      MachineError: the checkpoint is damaged, or results cannot be written.
    """
    names = (*seqio_tasks.names, *harness_tasks.all_names)
    if not names:
        raise UserError(
            "there is nothing to evaluate; set MIXTURE_OR_TASK_NAME or HARNESS_TASKS, or give a "
            "file of t5x_configs/suites as --gin_file."
        )
    if harness_tasks.all_names:
        lm_eval.require()
    found = restoring.find_checkpoint(checkpoint_path)
    about = restoring.read_about(found)
    _check_model(model, about["model"], str(found))
    chosen = _found(seqio_tasks)
    compilation.use_cache(compilation_cache_dir)
    predictor = Predictor.from_checkpoint(str(found), cache_dir=cache_dir, partitioner=partitioner)
    folder = epath.Path(output_dir) if output_dir else _default_folder(found)
    mesh = dict(predictor.blueprint.rules.mesh.shape)
    identity = fingerprint(
        checkpoint=about["arrays"],
        model=about["model"],
        mesh=mesh,
        device=jax.devices()[0].device_kind,
        versions=_versions(),
    )
    runner = Runner(predictor, Journal(folder / "journal"), batch_tokens, identity)
    bootstrap = Bootstrap(seed=random_seed, resamples=resamples)

    made: list[TaskResult] = []
    failed: dict[str, str] = {}
    if chosen is not None:
        made, failed = chosen.results(
            runner,
            bootstrap,
            vocabulary=about["model"]["vocabulary"],
            cache_dir=cache_dir or about["model"]["cache_dir"],
            tell_failure=_tell_failure,
        )
    if harness_tasks.all_names:
        more, more_failed = harness_tasks.evaluate(runner, bootstrap, _tell_failure)
        made, failed = made + more, failed | more_failed

    name = name or _file_name(names)
    if seqio_tasks.num_examples is not None:
        name += f"_first_{seqio_tasks.num_examples}"  # no evaluation of the whole takes its place
    evaluated = evaluation_results(
        made,
        aggregation=_aggregation(name, seqio_tasks, chosen, made, failed, over_prompts),
        bootstrap=bootstrap,
        checkpoint=_checkpoint(found, about, predictor.step),
        versions=_versions(),
        settings={
            "batch_tokens": batch_tokens,
            "mesh": mesh,
            "config": gin_text.without(operative_config(), _PLACES),
        },
        failed=failed,
    )
    path = folder / f"{name}.json"
    if jax.process_index() == 0:
        evaluated.write(str(path))
        print(f"{results_table(evaluated)}\n\nresults: {path}")
        if seqio_tasks.num_examples is not None:
            print(
                f"Of each task only the first {seqio_tasks.num_examples:,} examples (NUM_EXAMPLES)."
            )
    if failed:
        raise UserError(
            f"{len(failed)} of {len(made) + len(failed)} tasks failed: "
            f"{', '.join(sorted(failed))}. Why stands above and in {path}, with the results of "
            "the others; once that is mended, the same command evaluates only what is missing."
        )


def _found(config: SeqioTasks) -> "SeqioEvaluation | None":
    if not config.names:
        return None
    # SeqIO brings TensorFlow, whose import takes seconds: mistakes in flags are told before.
    with native_messages.held_back():
        from archobj_jax.evaluation.seqio_evaluation import SeqioEvaluation

    return SeqioEvaluation.of(config)


def _check_model(expected: Architecture | None, record: Mapping[str, Any], where: str) -> None:
    if expected is None:
        return
    found = lineage.recorded_model(record, where=where)
    if type(found) is not type(expected):
        raise UserError(
            f"MODEL is {type(expected).__name__} ({expected.symbol}), but the checkpoint {where} "
            f"is {type(found).__name__} ({found.symbol}). The checkpoint says what it is: leave "
            "MODEL out, or name another CHECKPOINT_PATH."
        )
    ours, theirs = dataclasses.asdict(expected.network), dataclasses.asdict(found.network)
    different = [
        f"{field} is {theirs[field]}, expected {ours[field]}"
        for field in ours
        if ours[field] != theirs[field] and field not in ("dropout_rate", "remat_policy")
    ]
    if different:
        raise UserError(
            f"the checkpoint {where} is of another network than MODEL: {'; '.join(different)}. "
            "The checkpoint says what it is: leave MODEL out, or name another CHECKPOINT_PATH."
        )


def _default_folder(checkpoint: epath.Path) -> epath.Path:
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return run / "evaluation" / checkpoint.name


def _file_name(names: Sequence[str]) -> str:
    return re.sub(r"[^\w.-]+", "_", "+".join(names))[:120]


def _aggregation(
    name: str,
    config: SeqioTasks,
    chosen: "SeqioEvaluation | None",
    made: Sequence[TaskResult],
    failed: Iterable[str],
    over_prompts: OverPrompts,
) -> Aggregation:
    """The mean over data sets, if there are several; those without any result are missing in it."""
    # A task of the harness that failed would have been a data set of its own.
    wanted: dict[str, str | None] = {task_name: task_name for task_name in failed}
    wanted |= {} if chosen is None else chosen.data_sets
    wanted |= {result.name: result.group for result in made}
    groups: dict[str, set[str]] = {data_set: set() for data_set in config.data_sets}
    for task_name, group in wanted.items():
        if group is not None:
            groups.setdefault(group, set()).add(task_name)
    return Aggregation(
        over_prompts,
        name if len(groups) > 1 else None,
        {group: sorted(names) for group, names in groups.items()},
    )


def _checkpoint(found: epath.Path, about: Mapping[str, Any], step: int) -> Checkpoint:
    stages = lineage.stages_of(about, where=str(found))
    records = tuple(dataclasses.asdict(stage) for stage in stages)
    return Checkpoint(
        path=str(found),
        step=step,
        lineage=Lineage(notation=lineage.notation(stages), stages=records),
        model=about["model"],
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _tell_failure(name: str, why: str) -> None:
    if jax.process_index() == 0:
        print(f"archobj: task {name} failed: {why}", file=sys.stderr, flush=True)
