"""A study expanded: stages with their commands, each named by what it is made of."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from archobj_jax.config import files
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study import chains
from archobj_jax.study.chains import MTF, Leg
from archobj_jax.study.design import Evaluation, Study
from archobj_jax.study.resolving import Recipe, Suite, recipe, suite
from archobj_jax.training.lineage import counted

ADAPT = "t5x_configs/runs/adapt.gin"

Legs = tuple[tuple[str, int, int], ...]
"""Pair, steps and tokens of the legs of a chain."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One `archobj train` or `archobj evaluate`.

    Attributes:
      fingerprint: 16 hex digits, of configuration, data, length and parent; where the stage lies
        and which study asks for it are not in it.
      kind: pretrain, adapt, finetune or evaluate.
      size, seed: the axes that are not in the chain.
      legs: (pair, steps, tokens) of the chain up to here; of an evaluation, of what it evaluates.
      budgets: of the legs, as the study writes them; what has the same is compared.
      parent: fingerprint of the stage whose last checkpoint this one starts from, or evaluates.
      evaluation: its name; None of a training stage.
      gin_files, bindings: of the command, without folders.
      config: the bindings they come to, as gin text.
      data: fingerprint of what the data are made of.
      total_steps: TRAIN_STEPS, which counts the stages before; 0 of an evaluation.
      flops: of the stage's steps; 0 of an evaluation, whose are not counted.
      parameters: of the model.
    """

    fingerprint: str
    kind: str
    size: str
    seed: int
    legs: Legs
    budgets: tuple[str, ...]
    parent: str | None
    evaluation: str | None
    gin_files: tuple[str, ...]
    bindings: tuple[str, ...]
    config: str
    data: str
    total_steps: int
    flops: float
    parameters: int

    @property
    def start_step(self) -> int:
        """The global step at which it begins."""
        return self.total_steps - self.legs[-1][1] if self.total_steps else 0

    @property
    def notation(self) -> str:
        """The chain in the paper's notation: `CD:FLM (168B) → ND:MLM (51B)`."""
        return _notation(self.legs, lambda group: counted(sum(leg[2] for leg in group)))

    @property
    def notation_of_legs(self) -> str:
        """The same with the tokens of each leg: `CD:FLM (84B + 84B)`."""
        return _notation(self.legs, lambda group: " + ".join(counted(leg[2]) for leg in group))

    @property
    def notation_of_steps(self) -> str:
        """The same with the steps of each leg, unrounded: `CD:FLM (300 + 300 steps)`."""
        return _notation(
            self.legs, lambda group: " + ".join(f"{leg[1]}" for leg in group) + " steps"
        )

    @property
    def pairs(self) -> str:
        """The chain without budgets."""
        return " → ".join(pair for pair, _ in itertools.groupby(leg[0] for leg in self.legs))

    @property
    def label(self) -> str:
        """What it is, in words: its chain with each leg's tokens, `CD:FLM (84B + 84B)`."""
        what = f"{self.notation_of_legs}, {self.size}, seed {self.seed}"
        return what if self.evaluation is None else f"{self.evaluation} of {what}"

    @property
    def place(self) -> str:
        """Its place in a study: what it is as the study writes it, whatever its configuration."""
        chain = [[leg[0], budget] for leg, budget in zip(self.legs, self.budgets, strict=True)]
        return json.dumps([chain, self.size, self.seed, self.evaluation])

    @property
    def folder(self) -> str:
        """The name of its folder: what it is, not what a study calls it."""
        slug = self.pairs.lower().replace(":", "-").replace(" → ", "_")
        suite = PurePosixPath(self.gin_files[0]).stem
        kind = f"{suite}_of_" if self.evaluation is not None else ""
        return f"{kind}{slug}_{self.size}_seed{self.seed}_{self.fingerprint[:10]}".replace(" ", "-")

    @property
    def pretraining_tokens(self) -> int:
        """Positions of the chain before MTF."""
        return sum(tokens for pair, _, tokens in self.legs if not pair.endswith(f":{MTF}"))

    @property
    def tokens(self) -> int:
        """Positions of this stage; of an evaluation 0."""
        return self.legs[-1][2] if self.evaluation is None else 0


def _notation(legs: Legs, told: Callable[[Legs], str]) -> str:
    """Pairs with what is told of their legs; a pair that goes on is named once."""
    return " → ".join(
        f"{pair} ({told(tuple(group))})"
        for pair, group in itertools.groupby(legs, key=lambda leg: leg[0])
    )


@dataclasses.dataclass(frozen=True)
class Graph:
    """The stages of a study by fingerprint, parents before children.

    Attributes:
      name: of the study.
      stages: by fingerprint.
      notes: which stages rest on the name of data only, or on another pair's experiment.
    """

    name: str
    stages: Mapping[str, Stage]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def __len__(self) -> int:
        return len(self.stages)

    def parent(self, stage: Stage) -> Stage | None:
        """The stage before."""
        return None if stage.parent is None else self.stages[stage.parent]

    def ancestors(self, stage: Stage) -> tuple[Stage, ...]:
        """The stages before, oldest first."""
        parent = self.parent(stage)
        return () if parent is None else (*self.ancestors(parent), parent)


def expand(study: Study) -> Graph:
    """Expands a study: sizes x seeds x chains, then the evaluations of their stages.

    Raises:
      UserError: a size or pair without an experiment, or a mistake in a gin file or binding.
    """
    building = _Building(study)
    for size in study.sizes:
        for seed in study.seeds:
            for legs in study.all_chains():
                building.add_chain(size, seed, legs)
    return Graph(study.name, building.stages, building.notes())


class _Building:
    def __init__(self, study: Study):
        self.study = study
        self.stages: dict[str, Stage] = {}
        self._told: dict[str, list[str]] = {}
        """Fingerprints of the stages that a note is of."""

    def notes(self) -> tuple[str, ...]:
        """What is to be told of stages, with their numbers."""
        numbers = {fingerprint: number for number, fingerprint in enumerate(self.stages, start=1)}
        return tuple(
            f"stage{'s' if of[1:] else ''} {', '.join(str(numbers[each]) for each in of)}: {note}"
            for note, of in self._told.items()
        )

    def _note(self, stage: Stage, note: str) -> None:
        told = self._told.setdefault(note, [])
        if stage.fingerprint not in told:
            told.append(stage.fingerprint)

    def add_chain(self, size: str, seed: int, legs: Sequence[Leg]) -> None:
        parent: Stage | None = None
        for end in range(1, len(legs) + 1):
            parent = self._add_training(size, seed, legs[:end], parent)
            for evaluation in self.study.evaluations:
                if parent.kind in evaluation.after:
                    self._add_evaluation(evaluation, parent)

    def _add_training(
        self, size: str, seed: int, legs: Sequence[Leg], parent: Stage | None
    ) -> Stage:
        kind, leg = chains.kind(legs), legs[-1]
        gin_files, note = self._gin_files(size, legs)
        bindings = [*self.study.bindings_of(kind), f"RANDOM_SEED={seed}"]
        if kind == "pretrain" and parent is not None:
            bindings.append("train.train.stage=pretrain")
        found = recipe(gin_files, tuple(bindings), goes_on=parent is not None)
        steps = leg.budget.steps(step_tokens=found.step_tokens, step_flops=found.step_flops)
        total = steps + (parent.total_steps if parent else 0)
        before = parent.legs if parent else ()
        made = self._keep(
            kind=kind,
            size=size,
            seed=seed,
            legs=(*before, (leg.pair, steps, steps * found.step_tokens)),
            budgets=tuple(str(each.budget) for each in legs),
            parent=parent,
            evaluation=None,
            gin_files=gin_files,
            bindings=tuple(bindings),
            made_of=found,
            total_steps=total,
            flops=steps * found.step_flops,
            parameters=found.parameters,
        )
        if note:
            self._note(made, note)
        return made

    def _add_evaluation(self, evaluation: Evaluation, parent: Stage) -> None:
        gin_files = (evaluation.gin_file,)
        bindings = (*self.study.bindings_of("evaluate"), *evaluation.bindings)
        found = suite(gin_files, bindings)
        made = self._keep(
            kind="evaluate",
            size=parent.size,
            seed=parent.seed,
            legs=parent.legs,
            budgets=parent.budgets,
            parent=parent,
            evaluation=evaluation.name,
            gin_files=gin_files,
            bindings=bindings,
            made_of=found,
            total_steps=0,
            flops=0.0,
            parameters=parent.parameters,
        )
        if made.evaluation != evaluation.name:
            raise UserError(
                f"Study.evaluations: '{made.evaluation}' and '{evaluation.name}' are the same "
                f"suite with the same bindings ({evaluation.gin_file}); leave one out."
            )

    def _keep(self, *, parent: Stage | None, made_of: Recipe | Suite, **fields: Any) -> Stage:
        """The stage of these fields, which another chain may have made already."""
        above = None if parent is None else parent.fingerprint
        identity = [fields["kind"], made_of.config, made_of.data, fields["total_steps"], above]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        made = Stage(
            fingerprint=digest, parent=above, config=made_of.config, data=made_of.data, **fields
        )
        for name, why in made_of.by_name.items():
            self._note(made, f"data {name} count by name only, {why}")
        return self.stages.setdefault(digest, made)

    def _gin_files(self, size: str, legs: Sequence[Leg]) -> tuple[tuple[str, ...], str]:
        """The experiment of a chain's last leg, the adaptation, the study's own files; a note."""
        folder, leg = f"{self.study.experiments}/{size}", legs[-1]
        if leg.objective == MTF:
            before = _file_name(legs[-2].pair)
            architecture = leg.architecture.lower()
            own = f"mtf_{architecture}_from_{before}"
            found = _experiment(folder, [own, f"mtf_{architecture}_from_*"])
            note = f"there is no {folder}/{own}.gin; {found} is taken"
            missing = found != f"{folder}/{own}.gin"
            return (found, *self.study.gin_files), note if missing else ""
        found = _experiment(folder, [_file_name(leg.pair)])
        return (found, *([ADAPT] if len(legs) > 1 else []), *self.study.gin_files), ""


def _file_name(pair: str) -> str:
    return pair.lower().replace(":", "_")


def _experiment(folder: str, patterns: Sequence[str]) -> str:
    """The first gin file of `folder` that has one of the names."""
    for root in files.search_path():
        for pattern in patterns:
            for path in sorted((root / folder).glob(f"{pattern}.gin")):
                return f"{folder}/{path.name}"
    known = {path.stem for root in files.search_path() for path in (root / folder).glob("*.gin")}
    hint = did_you_mean(patterns[0], known) if known else f" There is no folder {folder}."
    raise UserError(f"Study: there is no experiment {folder}/{patterns[0]}.gin.{hint}")
