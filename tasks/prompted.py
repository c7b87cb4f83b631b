"""Prompted tasks: one for each data set and prompt, for training and for rank classification.

The embedded family is registered here, with the mixtures `embedded_prompted_train` and, of its
held-out tasks, `embedded_prompted_held_out` (for their loss) and `embedded_prompted_score_eval`
(for rank classification). With PROMPTSOURCE_TEMPLATES set to a folder of PromptSource's templates,
T0's tasks and mixtures are too; PROMPTED_DATA_DIR may name a folder of local copies,
`<dataset>[/<subset>]/<split>.jsonl`, and what is not there comes from the hub. Others are
registered by a module of your own:

    prompts = PromptCollection.read("promptsource/templates")
    ag_news = register_dataset(prompts.of("ag_news"), LocalRecords("data/ag_news"))
    copa = register_dataset(prompts.of("super_glue", "copa"), HubRecords("super_glue", "copa"))
    register_mixture("my_train", [ag_news])
    register_held_out("my", [copa])
"""

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import seqio

from archobj_jax.data import registry, vocabularies
from archobj_jax.errors import UserError
from archobj_jax.objectives import AsGiven
from archobj_jax.prompts import PromptCollection, Template, embedded_tasks, ranking, t0
from archobj_jax.prompts.records import EmbeddedRecords, HubRecords, LocalRecords, Records
from archobj_jax.prompts.source import PromptedSource

SCORE_EVAL = registry.RANKED
"""Ends the name of a task for rank classification, which no model trains on."""


@dataclass(frozen=True)
class PromptedDataset:
    """The registered tasks of a data set.

    Attributes:
      tasks: a name for each prompt.
      score_eval: a name for each prompt with answer choices, in `tasks`' order.
      records: the examples.
      train_examples: of the train split; None to count them when they are first needed.
      original: those of `score_eval` whose prompt asks for the data set's own task.
    """

    tasks: tuple[str, ...]
    score_eval: tuple[str, ...]
    original: tuple[str, ...]
    records: Records
    train_examples: int | None

    def rate(self, task: seqio.Task) -> float:
        """Returns the mixing rate of each of the tasks, capped as T0 does."""
        del task
        examples = self._counted if self.train_examples is None else self.train_examples
        return t0.capped(examples, len(self.tasks))

    @functools.cached_property
    def _counted(self) -> int:
        return sum(1 for _ in self.records.read("train"))


def register_dataset(
    templates: Mapping[str, Template],
    records: Records,
    *,
    vocabulary: seqio.Vocabulary | None = None,
    splits: Mapping[str, str] | None = None,
    suffix: str = "",
    train_examples: int | None = None,
) -> PromptedDataset:
    """Registers `<dataset>_<subset>_<prompt>` for each prompt, and `…_score_eval` for its choices.

    Args:
      templates: the prompts, as `PromptCollection.of` returns them.
      records: the examples.
      vocabulary: tokenises them; T5's by default.
      splits: the records' split for each split of the tasks, where they differ.
      suffix: appended to the name, before `_score_eval`.
      train_examples: of the train split, for mixing; counted when needed by default.

    Returns:
      What was registered.

    Raises:
      UserError: there is no prompt.
    """
    if not templates:
        raise UserError("a prompted data set has at least one prompt; got none")
    vocabulary = vocabulary or vocabularies.t5_vocabulary()
    names, ranked, original = [], [], []
    source_of = functools.partial(PromptedSource, records=records, splits=splits)
    for template in templates.values():
        name = t0.task_name(template.dataset, template.subset, template.name) + suffix
        group = t0.task_name(template.dataset, template.subset, "") + suffix
        source = source_of(name, template, group=group)
        _register(name, source, vocabulary, template)
        names.append(name)
        if template.answer_choices is not None:
            score_name = name + SCORE_EVAL
            source = source_of(score_name, template, group=group, ranked=True)
            _register(score_name, source, vocabulary)
            ranked.append(score_name)
            if template.metadata.original_task:
                original.append(score_name)
    return PromptedDataset(tuple(names), tuple(ranked), tuple(original), records, train_examples)


def with_fields_of(
    templates: Mapping[str, Template], records: Records, split: str = "train"
) -> dict[str, Template]:
    """Returns those of `templates` whose fields the first record of `split` has.

    For data that lacks some of what PromptSource's prompts for it read.
    """
    _, record = next(iter(records.read(split)), ("", {}))
    return {
        name: template
        for name, template in templates.items()
        if not template.missing_fields(record)
    }


def register_mixture(name: str, datasets: Sequence[PromptedDataset]) -> seqio.Mixture:
    """Registers a mixture of all prompts of some data sets, each with T0's rate.

    A prompt counts as the examples of its data set; of more than 500,000 as 500,000 divided by the
    number of prompts.
    """
    return seqio.MixtureRegistry.add(
        name, [(task, dataset.rate) for dataset in datasets for task in dataset.tasks]
    )


def register_held_out(prefix: str, datasets: Sequence[PromptedDataset]) -> None:
    """Registers mixtures of the prompts that ask for each data set's own task, at equal rates.

    `<prefix>_held_out`, for the loss, and `<prefix>_score_eval`, for ranking answer choices.

    Raises:
      UserError: no prompt asks for a data set's own task and has answer choices.
    """
    ranked = [task for dataset in datasets for task in dataset.original]
    if not ranked:
        raise UserError(
            f"mixture '{prefix}{SCORE_EVAL}': none of the prompts has both answer_choices and "
            "'original_task: true' in its metadata; expected some to rank"
        )
    scored = [task.removesuffix(SCORE_EVAL) for task in ranked]
    seqio.MixtureRegistry.add(f"{prefix}_held_out", scored, default_rate=1.0)
    seqio.MixtureRegistry.add(prefix + SCORE_EVAL, ranked, default_rate=1.0)


def register_t0(prompts: str, data: str | None = None) -> None:
    """Registers T0's tasks, with T5's vocabulary, and its mixtures under T0's names.

    `d4_train`, `d4_gpt_eval_train` and `d4_gpt_sglue_train` (T0, T0+, T0++); `d4_score_eval`, and
    `d4_held_out` for the loss on the same prompts.
    Data sets of which `prompts` has no templates are left out.

    Args:
      prompts: folder of PromptSource's templates.
      data: folder of local copies, `<dataset>[/<subset>]/<split>.jsonl`; what is not there comes
        from the Hugging Face hub.
    """
    collection = PromptCollection.read(prompts)
    trained: dict[str, list[PromptedDataset]] = {}
    evaluated: list[PromptedDataset] = []
    for each in t0.datasets():
        templates = collection.prompts.get((each.name, each.subset))
        if not templates:
            continue
        for registered in _register_t0(each, templates, data):
            trained.setdefault(each.trained, []).append(registered)
            if each.evaluated == "BASE":
                evaluated.append(registered)
    for name, groups in t0.MIXTURES.items():
        members = [dataset for group in groups for dataset in trained.get(group, ())]
        if members:
            register_mixture(name, members)
    if any(dataset.original for dataset in evaluated):
        register_held_out(t0.PREFIX, evaluated)


def _register_t0(
    dataset: t0.Dataset, templates: Mapping[str, Template], data: str | None
) -> Iterable[PromptedDataset]:
    folder = Path(data, dataset.name, dataset.subset or "") if data else None
    records: Records = (
        LocalRecords(str(folder))
        if folder and folder.is_dir() and any(path.is_file() for path in folder.iterdir())
        else HubRecords(dataset.name, dataset.subset)
    )
    register = functools.partial(
        register_dataset, templates, records, train_examples=dataset.train_examples
    )
    if dataset.name != "anli":
        return [register()]
    return [
        register(
            splits={"train": f"train_{r}", "validation": f"dev_{r}", "test": f"test_{r}"},
            suffix=f"_{r}",
        )
        for r in t0.ANLI_ROUNDS
    ]


def _register(
    name: str,
    source: PromptedSource,
    vocabulary: seqio.Vocabulary,
    template: Template | None = None,
) -> None:
    """Registers one task; for rank classification without `template`."""
    exact = template is not None and "Accuracy" in template.metadata.metrics
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
            seqio.CacheDatasetPlaceholder(),
            *([AsGiven()] if template else []),
        ],
        output_features={
            "inputs": seqio.Feature(vocabulary, add_eos=False),
            "targets": seqio.Feature(vocabulary, add_eos=True),
        },
        postprocess_fn=ranking.strip if template else ranking.postprocess,
        metric_fns=[ranking.accuracy]
        if exact
        else []
        if template
        else [ranking.rank_classification],
    )


def _register_embedded() -> None:
    registered = {
        name: register_dataset(
            embedded_tasks.prompts().of(embedded_tasks.DATASET, name),
            EmbeddedRecords(name),
            vocabulary=vocabularies.embedded_vocabulary(),
        )
        for name in embedded_tasks.TASKS
    }
    held_out = {name for name, task in embedded_tasks.TASKS.items() if task.held_out}
    # Equal rates: the tasks are of one corpus, and of different kinds.
    training = [dataset for name, dataset in registered.items() if name not in held_out]
    train = [task for dataset in training for task in dataset.tasks]
    seqio.MixtureRegistry.add("embedded_prompted_train", train, default_rate=1.0)
    register_held_out("embedded_prompted", [registered[name] for name in sorted(held_out)])


def explain_missing(name: str) -> str:
    """Says why a mixture of T0's is not registered; empty for other names."""
    if name not in {*t0.MIXTURES, f"{t0.PREFIX}{SCORE_EVAL}", f"{t0.PREFIX}_held_out"}:
        return ""
    return (
        f" '{name}' is registered once PROMPTSOURCE_TEMPLATES names a folder of PromptSource's "
        "templates that has prompts of its data sets."
    )


_register_embedded()
if os.environ.get("PROMPTSOURCE_TEMPLATES"):
    register_t0(os.environ["PROMPTSOURCE_TEMPLATES"], os.environ.get("PROMPTED_DATA_DIR"))
