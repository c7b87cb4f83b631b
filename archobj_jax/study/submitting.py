"""`archobj study commands`: what to submit where the chips are, stage by stage."""

import re
import shlex
from collections.abc import Iterator

from archobj_jax import job_names
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store


def commands(graph: Graph, store: Store, *, launcher: str) -> str:
    """A shell script: a comment and a command for each stage that is not done.

    Args:
      graph: the stages.
      store: where they are to lie; a bucket, for a pod.
      launcher: what goes before `archobj`, {name} in it is the stage's; "" for nothing.
    """
    return "\n".join(_lines(graph, store, launcher))


def _lines(graph: Graph, store: Store, launcher: str) -> Iterator[str]:
    numbers = {stage.fingerprint: number for number, stage in enumerate(graph, start=1)}
    todo, note = list(graph), ""
    try:
        todo = [stage for stage in graph if not store.is_done(stage)]
    except Exception as error:  # of whichever client reads the bucket
        note = f"# {store.root} cannot be read from here, so all stages are listed: {_line(error)}"
    yield f"# {graph.name}: {len(graph)} stages, {len(todo)} to run. A stage may begin when those"
    yield "# that it names are done; all others may run beside it. A command that was stopped goes"
    yield "# on from where it was when it is given again, and `archobj study status` with the same"
    yield "# --store tells which are done."
    if note:
        yield note
    yield from (f"# note: {each}" for each in graph.notes)
    for stage in todo:
        number = numbers[stage.fingerprint]
        after = "" if stage.parent is None else f", after {numbers[stage.parent]}"
        yield ""
        yield f"# {number}. {stage.kind}: {stage.label}{after}"
        before = launcher.format(name=job_name(graph, stage, number)).strip()
        command = shlex.join(["archobj", *store.arguments(stage, graph)])
        yield f"{before} {command}".strip()


def job_name(graph: Graph, stage: Stage, number: int) -> str:
    """A name for the stage's slice or job, by the rules of `job_names`."""
    kind = "" if stage.evaluation is None else f"{stage.evaluation}-of-"
    pairs = stage.pairs.replace(":", "-").replace(" → ", "-to-")
    name = re.sub("[^a-z0-9]+", "-", f"{graph.name}-{number}-{kind}{pairs}".lower())
    return name[: job_names.LONGEST].rstrip("-")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
