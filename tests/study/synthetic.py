"""A study of stages that nothing trains: a graph without gin, and an executor that writes files."""

import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from archobj_jax.errors import UserError
from archobj_jax.evaluation.aggregation import Aggregation
from archobj_jax.study.chains import kind
from archobj_jax.study.design import Evaluation, Study
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.scores import Score
from archobj_jax.study.runner import Runner
from archobj_jax.study.store import Store
from archobj_jax.training.sealing import content_sha256
from tests.evaluation.outcomes import prompt, results

CHAINS = (
    "CD:FLM 30 steps → CD:MTF 10 steps",
    "ND:MLM 30 steps → ND:MTF 10 steps",
    "CD:FLM 30 steps → ND:MLM 10 steps → ND:MTF 10 steps",
)
SUITE = Evaluation("Held out", "suite.gin", beside="T0")
STEP_TOKENS = 100
ALL = 12
"""Six training stages and their evaluations."""
ACCURACY = {"CD:FLM → CD:MTF": 0.5, "ND:MLM → ND:MTF": 0.9}


def study(*, chains=CHAINS, seeds=(0,), name="synthetic"):
    return Study(name=name, sizes=("tiny",), seeds=seeds, chains=chains, evaluations=(SUITE,))


def graph(of: Study, *, config: str = "A = 1") -> Graph:
    """The study's graph; fingerprints know chain, seed and `config`."""
    stages: dict[str, Stage] = {}
    for seed in of.seeds:
        for legs in of.all_chains():
            parent = None
            for end in range(1, len(legs) + 1):
                parent = _training(stages, legs[:end], seed, parent, config)
                _evaluation(stages, parent, config)
    return Graph(of.name, stages, ())


def _training(stages, legs, seed, parent, config):
    steps = legs[-1].budget.steps(step_tokens=STEP_TOKENS, step_flops=1e9, where="synthetic")
    before = parent.legs if parent else ()
    name = "".join(f"{leg.pair}{leg.budget.amount:.0f}" for leg in legs).replace(":", "").lower()
    made = Stage(
        fingerprint=f"{zlib.crc32(f'{config} {seed} {name}'.encode()):08x}",
        kind=kind(legs),
        size="tiny",
        seed=seed,
        legs=(*before, (legs[-1].pair, steps, steps * STEP_TOKENS)),
        budgets=tuple(str(leg.budget) for leg in legs),
        parent=parent and parent.fingerprint,
        evaluation=None,
        gin_files=("experiment.gin",),
        bindings=(f"RANDOM_SEED={seed}",),
        config=config,
        data="data",
        total_steps=steps + (parent.total_steps if parent else 0),
        flops=1e9 * steps,
        parameters=1000,
    )
    return stages.setdefault(made.fingerprint, made)


def _evaluation(stages, parent, config):
    made = dataclasses.replace(
        parent,
        fingerprint=f"e{parent.fingerprint}",
        kind="evaluate",
        parent=parent.fingerprint,
        evaluation=SUITE.name,
        gin_files=(SUITE.gin_file,),
        bindings=(),
        total_steps=0,
        flops=0.0,
    )
    stages.setdefault(made.fingerprint, made)


class FakeArchobj:
    """Stands in for `execution.execute`: writes what the command would, or fails as it is told.

    Attributes:
      runs: folders of the stages run, in order.
      failures: exit statuses to give before a stage succeeds, by the beginning of its folder.
    """

    def __init__(self, of: Graph, store: Store, failures=None, accuracy=None):
        self.graph, self.store = of, store
        self.failures = {name: list(statuses) for name, statuses in (failures or {}).items()}
        self.accuracy = accuracy or {}
        self.runs: list[str] = []

    def __call__(self, arguments, *, log, lock, environment, progress):
        folder = log.parent
        self.runs.append(folder.name)
        stage = next(each for each in self.graph if each.folder == folder.name)
        assert arguments == self.store.arguments(stage, self.graph)
        progress()
        for name, statuses in self.failures.items():
            if folder.name.startswith(name) and statuses:
                status = statuses.pop(0)
                told = "archobj: error: the corpus is empty\n" if status > 0 else ""
                with log.open("a") as file:
                    file.write(f"working\n{told}")
                return status
        write_outputs(stage, folder, self.accuracy.get(stage.pairs, 0.6))
        return 0


def write_outputs(stage: Stage, folder: Path, accuracy: float) -> None:
    """What a stage leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    if stage.evaluation is not None:
        (folder / "held_out.json").write_text("")
        made(stage, accuracy).write(str(folder / "held_out.json"))
        return
    (folder / "checkpoints" / f"checkpoint_{stage.total_steps}").mkdir(parents=True)
    # The adapted one starts at 4 and falls twice as fast as one from scratch, from 8.
    start, slope = (4.0, 0.2) if stage.kind == "adapt" else (8.0, 0.1)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(stage.start_step + 1, stage.total_steps + 1):
            done = step - stage.start_step
            loss = start - slope * done
            record = {"step": step, "loss": loss, "tokens_per_second": 50.0}
            record |= {"seconds_per_step": 2.0, "share_of_peak": 0.5}
            record |= {"tokens_seen": 90.0 * done}
            file.write(json.dumps(record) + "\n")
            file.write(json.dumps({"step": step, "eval/task/loss": loss}) + "\n")


def save_about(stage: Stage, folder: Path, **about) -> Path:
    """A last checkpoint of a training stage, with what it says of itself and without arrays."""
    path = folder / "checkpoints" / f"checkpoint_{stage.total_steps}"
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        sealed = {"content": about, "sha256": content_sha256(about)}
        checkpointer.save(path / "about", sealed)
    return path


def made(stage: Stage, accuracy: float, *, examples: int = 60):
    """Two data sets with two prompts each; `accuracy` of the examples are answered rightly."""
    rng = np.random.default_rng([stage.seed, round(1000 * accuracy)])
    tasks = []
    for group in ("first", "second"):
        for name in ("plain", "question"):
            rights = rng.permutation(examples) < round(accuracy * examples)
            tasks.append(prompt(f"{group}_{name}", rights.tolist(), group=group))
    groups = {name: (f"{name}_plain", f"{name}_question") for name in ("first", "second")}
    return results(tasks, aggregation=Aggregation("median", "held_out", groups))


def score(values, draws, chance=None) -> Score:
    """An average of seeds 0, 1, …, with its bootstrap's draws [seeds, resamples]."""
    return Score(dict(enumerate(values)), np.array(draws, float), chance)


def evidence(folder, *, seeds=(0,), accuracy=ACCURACY, chains=CHAINS) -> Evidence:
    """A study that is done; `accuracy` by pairs, 0.6 of others."""
    of = study(seeds=seeds, chains=chains)
    made = Evidence(of, graph(of), Store(str(folder)))
    for stage in made.graph:
        write_outputs(stage, Path(made.store.folder(stage)), accuracy.get(stage.pairs, 0.6))
    return made


def runner(of, store, fake, **options):
    return Runner(of, store, {}, execute=fake, pause=0.0, say=lambda _: None, **options)


def run(of, store, **options):
    """Runs; returns the folders of the stages run, and the message of what failed."""
    fake = FakeArchobj(of, store, **options)
    try:
        runner(of, store, fake).run()
    except UserError as error:
        return fake.runs, str(error)
    return fake.runs, ""
