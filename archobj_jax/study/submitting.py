"""`archobj study commands`: what to submit where the chips are, stage by stage."""

import re
import shlex
from collections.abc import Iterator

from archobj_jax import job_names
from archobj_jax.errors import UserError
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store


def commands(graph: Graph, store: Store, *, launcher: str) -> str:
    """A shell script: a comment and a command for each stage that is not done.

    Args:
      graph: the stages.
      store: where they are to lie; a bucket, for a pod.
      launcher: what goes before `archobj`, {name} in it is the stage's; "" for nothing.

    Raises:
      UserError: with a launcher, a store that other machines do not see.
    """
    if launcher and "://" not in store.root and not store.root.startswith("/"):
        raise UserError(
            f"--store={store.root}: not a place that a pod's hosts share. Give "
            "--store=gs://BUCKET/study, or the full path of a folder that all hosts have mounted; "
            "or --launcher='' for commands that run here."
        )
    return "\n".join(_lines(graph, store, launcher))


def _lines(graph: Graph, store: Store, launcher: str) -> Iterator[str]:
    numbers = {stage.fingerprint: number for number, stage in enumerate(graph, start=1)}
    reason = unreadable(graph, store)
    todo = [stage for stage in graph if reason or not store.is_done(stage)]
    yield f"# {graph.name}: {len(graph)} stages, {len(todo)} to run. A stage may begin when those"
    yield "# that it names are done; all others may run beside it. A command that was stopped goes"
    yield "# on from where it was when it is given again, and `archobj study status` with the same"
    yield "# --store tells which are done."
    if reason:
        yield f"# {store.root} cannot be read from here, so all stages are listed: {reason}"
    yield from (f"# note: {each}" for each in graph.notes)
    for stage in todo:
        number = numbers[stage.fingerprint]
        after = "" if stage.parent is None else f", after {numbers[stage.parent]}"
        yield ""
        yield f"# {number}. {stage.kind}: {stage.label}{after}"
        # Any other brace is the shell's.
        before = launcher.replace("{name}", job_name(graph, stage)).strip()
        command = shlex.join(["archobj", *store.arguments(stage, graph)])
        yield f"{before} {command}".strip()


def job_name(graph: Graph, stage: Stage) -> str:
    """A name for the stage's slice or job, by the rules of `job_names`.

    It ends in the beginning of the stage's fingerprint: a stage keeps its name whatever else the
    study asks for, and never has that of another, to which a launcher would attach.
    """
    kind = "" if stage.evaluation is None else f"{stage.evaluation}-of-"
    pairs = stage.pairs.replace(":", "-").replace(" → ", "-to-")
    name = re.sub("[^a-z0-9]+", "-", f"{graph.name}-{kind}{pairs}".lower())
    end = f"-{stage.fingerprint[:8]}"
    return name[: job_names.LONGEST - len(end)].rstrip("-") + end


def unreadable(graph: Graph, store: Store) -> str:
    """Why the store, a bucket, cannot be read from here; empty if it can be."""
    try:
        store.is_done(next(iter(graph)))
    except Exception as error:  # of whichever client reads the bucket
        if "://" not in store.root:
            raise
        return str(error).partition("\n")[0] or type(error).__name__
    return ""
