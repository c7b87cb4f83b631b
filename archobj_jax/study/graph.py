"""A study expanded: stages with their commands, each named by what it is made of."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from archobj_jax.errors import UserError
from archobj_jax.study import chains, experiments, mistakes
from archobj_jax.study.chains import MTF, Leg
from archobj_jax.study.design import Evaluation, Study
from archobj_jax.study.resolving import Recipe, Suite, recipe, suite
from archobj_jax.training.lineage import counted

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
class Need:
    """What a machine must have to run some stages.

    Attributes:
      what: in words.
      stages: their fingerprints.
      here: whether this machine has it.
    """

    what: str
    stages: tuple[str, ...]
    here: bool


@dataclasses.dataclass(frozen=True)
class Graph:
    """The stages of a study by fingerprint, parents before children.

    Attributes:
      name: of the study.
      stages: by fingerprint.
      notes: which stages rest on the name of data only, or on another pair's experiment.
      needs: what not every machine has.
    """

    name: str
    stages: Mapping[str, Stage]
    notes: tuple[str, ...]
    needs: tuple[Need, ...] = ()

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def __len__(self) -> int:
        return len(self.stages)

    def numbered(self, fingerprints: Sequence[str]) -> str:
        """Stages by their numbers in the study: `stage 3`, `stages 3, 6`."""
        numbers = [i for i, each in enumerate(self.stages, start=1) if each in fingerprints]
        return f"stage{'s' if numbers[1:] else ''} {', '.join(map(str, numbers))}"

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
    mistakes.check_own(study)
    building = _Building(study)
    for size in study.sizes:
        for seed in study.seeds:
            for legs in study.all_chains():
                building.add_chain(size, seed, legs)
    return building.graph()


class _Building:
    def __init__(self, study: Study):
        self.study = study
        self.stages: dict[str, Stage] = {}
        self._told: dict[str, list[str]] = {}
        """Fingerprints of the stages that a note is of."""
        self._needs: dict[tuple[str, bool], list[str]] = {}
        """Likewise, of what they need, and whether it is here."""

    def graph(self) -> Graph:
        """The stages, with what is to be told of them."""
        needs = (Need(what, tuple(of), here) for (what, here), of in self._needs.items())
        graph = Graph(self.study.name, self.stages, (), tuple(needs))
        notes = tuple(f"{graph.numbered(of)}: {note}" for note, of in self._told.items())
        return dataclasses.replace(graph, notes=notes)

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
        gin_files, note = experiments.gin_files(self.study, size, legs)
        bindings = [*self.study.bindings_of(kind), f"RANDOM_SEED={seed}"]
        if kind == "pretrain" and parent is not None:
            bindings.append("train.train.stage=pretrain")
        with mistakes.told_where(self.study, kind):
            found = recipe(gin_files, tuple(bindings), goes_on=parent is not None)
        where = f"chain '{' → '.join(f'{each.pair} {each.budget}' for each in legs)}'"
        if parent is not None:
            mistakes.check_stacks(legs[-2], leg, found.config, kind=kind, where=where)
        steps = leg.budget.steps(
            step_tokens=found.step_tokens, step_flops=found.step_flops, where=where
        )
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
        with mistakes.told_where(self.study, "evaluate", evaluation):
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
        for need in made_of.needs.items():
            of = self._needs.setdefault(need, [])
            if digest not in of:
                of.append(digest)
        return self.stages.setdefault(digest, made)
