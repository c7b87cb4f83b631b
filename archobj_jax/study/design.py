"""What a study is, as gin binds it: axes and chains of stages, sizes, seeds, evaluations."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study import chains
from archobj_jax.study.chains import Leg

KINDS = ("pretrain", "adapt", "finetune", "evaluate")

Average = Literal["T0", "EAI"]
"""The paper's two averages."""

_FILES = ("", " data sets", " prompts")
"""What the names of the report's files on one evaluation end in, after the evaluation's."""


def _check_tuple(binding: str, value: Any, example: str, kind: type = str) -> None:
    """Checks that a parameter is a tuple or list.

    Args:
      binding: what it is bound as.
      value: of the parameter.
      example: of one element, as gin text.
      kind: of its elements.

    Raises:
      UserError: it is none, or an element is of another kind; shows the tuple that is expected.
    """
    if isinstance(value, tuple | list) and all(isinstance(each, kind) for each in value):
        return
    meant = repr(value) if isinstance(value, kind) and kind in (str, int) else example
    raise UserError(f"{binding} = {value!r}: expected a tuple, such as ({meant},).")


@dataclasses.dataclass(frozen=True)
class Grid:
    """Architectures x objectives, each pretrained to every budget, and finetuned on prompts.

    Attributes:
      architectures: of CD, ND, ED.
      objectives: of LM and MLM; LM is FLM for CD, PLM for ND and ED, as in the study.
      budgets: marks on one pretraining run, ascending, all in one unit; the run goes on from each.
      mtf: budget of multitask prompted finetuning after the last of them; None for none.
    """

    architectures: Sequence[str] = ("CD", "ND", "ED")
    objectives: Sequence[str] = ("LM", "MLM")
    budgets: Sequence[str] = ()
    mtf: str | None = None

    def __post_init__(self) -> None:
        for name, example in (("architectures", "CD"), ("objectives", "LM"), ("budgets", "168B")):
            _check_tuple(f"Grid.{name}", getattr(self, name), repr(example))

    def chains(self) -> Iterator[str]:
        """The chains, in the paper's notation.

        Raises:
          UserError: an architecture or objective that there is not, or no budget.
        """
        if not self.budgets:
            raise UserError("Grid.budgets is empty; expected one at least, ('168B',).")
        for objective in self.objectives:
            for architecture in self.architectures:
                pair = _pair(architecture, objective)
                chain = " → ".join(f"{pair} {budget}" for budget in _increments(self.budgets))
                yield chain if self.mtf is None else f"{chain} → {architecture}:MTF {self.mtf}"


def slug(name: str) -> str:
    """A name as files of the report have it."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of the checkpoints of a study, by `archobj evaluate`.

    Attributes:
      name: what the report calls it; letters, digits, spaces and ._- in it.
      gin_file: the suite.
      after: the kinds of stages whose last checkpoint is evaluated.
      bindings: NAME=VALUE, as `--gin.` takes them.
      beside: the paper's average that it stands beside, T0 or EAI; None for neither.
    """

    name: str
    gin_file: str
    after: Sequence[str] = ("pretrain", "adapt", "finetune")
    bindings: Sequence[str] = ()
    beside: Average | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9 ._-]*", str(self.name)):
            raise UserError(
                f"Evaluation.name = {self.name!r}: expected letters, digits, spaces, dots, hyphens "
                "and underscores, beginning with a letter or digit."
            )
        _check_tuple(f"Evaluation.after of {self.name}", self.after, "'pretrain'")
        _check_tuple(f"Evaluation.bindings of {self.name}", self.bindings, "'NAME=VALUE'")
        averages = get_args(Average)
        if self.beside is not None and self.beside not in averages:
            hint = did_you_mean(str(self.beside).upper(), averages, count=1)
            raise UserError(
                f"Evaluation.beside of {self.name} = {self.beside!r}: expected "
                f"{' or '.join(averages)}, or None.{hint}"
            )
        for kind in self.after:
            if kind not in KINDS[:3]:
                raise UserError(
                    f"Evaluation.after of {self.name} has '{kind}'; expected "
                    f"{', '.join(KINDS[:3])}.{did_you_mean(kind, KINDS[:3])}"
                )


@dataclasses.dataclass(frozen=True)
class Study:
    """A study. Every chain is run at every size and with every seed.

    Attributes:
      name: of the folder with its report, and of what is submitted to a pod.
      sizes: of `experiments`.
      seeds: of parameters, data order and dropout.
      grids: axes.
      chains: more chains, in the paper's notation; stages that chains share are run once.
      evaluations: of the checkpoints.
      experiments: folder of the ready experiments, <size>/<pair>.gin.
      gin_files: given after the experiment to every training stage (corpus, mesh, optimizer).
      bindings: NAME=VALUE by kind of stage (`pretrain`, `adapt`, `finetune`, `evaluate`), and of
        all training stages as `train`.
    """

    name: str
    sizes: Sequence[str]
    seeds: Sequence[int] = (0,)
    grids: Sequence[Grid] = ()
    chains: Sequence[str] = ()
    evaluations: Sequence[Evaluation] = ()
    experiments: str = "t5x_configs/experiments"
    gin_files: Sequence[str] = ()
    bindings: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", str(self.name)):
            raise UserError(
                f"Study.name = '{self.name}': expected small letters, digits and underscores, "
                "beginning with a letter."
            )
        self._check_tuples()
        for what in ("sizes", "seeds"):
            values = getattr(self, what)
            if not values or len(set(values)) < len(values):
                raise UserError(f"Study.{what} = {values}: expected one at least, none twice.")
        names = [evaluation.name for evaluation in self.evaluations]
        files = [slug(f"{name}{ending}") for name in names for ending in _FILES]
        if len(set(files)) < len(files):
            raise UserError(
                f"Study.evaluations are called {names}; two have the same name, but for capitals, "
                "what is no letter or digit, and 'data sets' or 'prompts' at the end: their files "
                "would be the same."
            )
        self._check_bindings()
        if not self.all_chains():
            raise UserError(f"the study '{self.name}' has no grids and no chains.")

    def _check_tuples(self) -> None:
        _check_tuple("Study.sizes", self.sizes, "'tiny'")
        _check_tuple("Study.seeds", self.seeds, "0", int)
        _check_tuple("Study.grids", self.grids, "@design.Grid()", Grid)
        _check_tuple("Study.chains", self.chains, "'CD:FLM 300 steps'")
        _check_tuple("Study.evaluations", self.evaluations, "@design.Evaluation()", Evaluation)
        _check_tuple("Study.gin_files", self.gin_files, "'mine.gin'")

    def _check_bindings(self) -> None:
        if not isinstance(self.bindings, Mapping):
            raise UserError(
                f"Study.bindings = {self.bindings!r}: expected a dict of tuples by kind of stage, "
                "such as {'train': ('NAME=VALUE',)}."
            )
        known = ("train", *KINDS)
        for kind, bindings in self.bindings.items():
            if kind not in known:
                raise UserError(
                    f"Study.bindings has '{kind}'; expected {', '.join(known)}."
                    f"{did_you_mean(kind, known)}"
                )
            _check_tuple(f"Study.bindings['{kind}']", bindings, "'NAME=VALUE'")

    def all_chains(self) -> tuple[tuple[Leg, ...], ...]:
        """Those of the grids, then the others, each once."""
        texts = [chain for grid in self.grids for chain in grid.chains()]
        return tuple(dict.fromkeys(chains.parse(text) for text in (*texts, *self.chains)))

    def bindings_of(self, kind: str) -> tuple[str, ...]:
        """The bindings of a kind of stage, those of all training stages first."""
        shared = () if kind == "evaluate" else self.bindings.get("train", ())
        return (*shared, *self.bindings.get(kind, ()))


def _pair(architecture: str, objective: str) -> str:
    if architecture not in ("CD", "ND", "ED"):
        raise UserError(f"Grid.architectures has '{architecture}'; expected CD, ND or ED.")
    if objective not in ("LM", "MLM"):
        raise UserError(f"Grid.objectives has '{objective}'; expected LM or MLM.")
    if objective == "LM":
        objective = "FLM" if architecture == "CD" else "PLM"
    return f"{architecture}:{objective}"


def _increments(marks: Sequence[str]) -> list[str]:
    """Budgets from one mark to the next."""
    budgets = [chains.Budget.parse(mark, where="Grid.budgets") for mark in marks]
    if len({budget.unit for budget in budgets}) > 1:
        raise UserError(f"Grid.budgets = {tuple(marks)}: expected one unit for all.")
    amounts = [0.0, *(budget.amount for budget in budgets)]
    steps = [after - before for before, after in itertools.pairwise(amounts)]
    if min(steps) <= 0:
        raise UserError(f"Grid.budgets = {tuple(marks)}: expected ascending marks.")
    return [f"{step:.12g} {budgets[0].unit}" for step in steps]
