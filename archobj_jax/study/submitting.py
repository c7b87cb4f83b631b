"""`archobj study commands`: what to submit where the chips are, stage by stage."""

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence

from archobj_jax import job_names
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store

_OURS = re.compile(r"(?:\S*/)?launch/(tpu_vm|gke)(?=\s|$)")
"""What begins a launcher of this repository."""

_BRACES = re.compile(r"(?<!\$)\{(\w+)\}")

_STAYS = {
    "tpu_vm": "Each command asks for a slice of its own name, which stays, and costs, until "
    "`launch/tpu_vm delete --name=…`; with --delete_when_done before the `--` it is deleted once "
    "the command is done.",
    "gke": "Each command makes a job of its own name; the cluster stays, and costs, until it is "
    "deleted.",
}
_WHERE = {
    "tpu_vm": "There, variables are set in [env] of pod.toml; its setup_script installs.",
    "gke": "There, variables are set by --env; launch/Dockerfile installs.",
}
_CACHE = (
    "The study binds no CACHE_DIR, so each run makes the caches of its data anew, in runs/cache "
    'where it runs. CACHE_DIR=/mnt/BUCKET/cache in Study.bindings["train"], in a bucket that all '
    "mount (docs/pods.md), keeps them; where they lie changes no stage."
)
_WIDTH = 98


def commands(graph: Graph, store: Store, *, launcher: str) -> str:
    """A shell script: a comment and a command for each stage that is not done.

    Args:
      graph: the stages.
      store: where they are to lie; a bucket, for a pod.
      launcher: what goes before `archobj`, {name} in it is the stage's; "" for nothing.

    Raises:
      UserError: with a launcher, a store that other machines do not see; a launcher of ours without
        {name}, or with another word in its place.
    """
    _check(launcher)
    if launcher and "://" not in store.root and not store.root.startswith("/"):
        raise UserError(
            f"--store={store.root}: not a place that a pod's hosts share. Give "
            "--store=gs://BUCKET/study, or the full path of a folder that all hosts have mounted; "
            "or --launcher='' for commands that run here."
        )
    return "\n".join(_lines(graph, store, launcher))


def _check(launcher: str) -> None:
    words = _BRACES.findall(launcher)
    for word in words:
        if word != "name" and did_you_mean(word.lower(), ["name"]):
            raise UserError(
                f"--launcher has {{{word}}}, which stands for nothing. Did you mean '{{name}}'?"
            )
    if (ours := _OURS.match(launcher)) and "name" not in words:
        raise UserError(
            f"--launcher={launcher}: without {{name}} all stages would have one name, and the next "
            f"would attach to the one before. Expected '{ours[0]} run … --name={{name}} --'."
        )


def _lines(graph: Graph, store: Store, launcher: str) -> Iterator[str]:
    numbers = {stage.fingerprint: number for number, stage in enumerate(graph, start=1)}
    reason = unreadable(graph, store)
    todo = {stage.fingerprint: stage for stage in graph if reason or not store.is_done(stage)}
    yield from _header(graph, store, launcher, list(todo.values()), reason)
    for stage in todo.values():
        number = numbers[stage.fingerprint]
        after = f", after {numbers[stage.parent]}" if stage.parent in todo else ""
        yield ""
        yield f"# {number}. {stage.kind}: {stage.label}{after}"
        # Any other brace is the shell's.
        before = launcher.replace("{name}", job_name(graph, stage)).strip()
        command = shlex.join(["archobj", *store.arguments(stage, graph)])
        yield f"{before} {command}".strip()


def _header(
    graph: Graph, store: Store, launcher: str, todo: Sequence[Stage], reason: str
) -> Iterator[str]:
    """What one must know before the first command.

    Args:
      graph: the stages.
      store: where they are to lie.
      launcher: what goes before `archobj`.
      todo: the stages that are not done.
      reason: why the store cannot be read, or empty.
    """
    ours = _OURS.match(launcher)
    yield from _comment(
        f"{graph.name}: {len(graph)} stages, {len(todo)} to run. A stage may begin when the one "
        "that it names is done; all others may run beside it. A command that was stopped goes on "
        "from where it was when it is given again, and `archobj study status` with the same "
        "--store tells which are done."
    )
    if ours and todo:
        yield from _comment(f"{_STAYS[ours[1]]} docs/pods.md says more.")
    if launcher and any(each.evaluation is None and not _has_cache(each) for each in todo):
        yield from _comment(_CACHE)
    left = {stage.fingerprint for stage in todo}
    needs = [need for need in graph.needs if not left.isdisjoint(need.stages)]
    for need in needs:
        of = [each for each in need.stages if each in left]
        yield from _comment(f"needed by {graph.numbered(of)}: {need.what}")
    if ours and needs:
        yield from _comment(_WHERE[ours[1]])
    if reason:
        yield f"# {store.root} cannot be read from here, so all stages are listed: {reason}"
    yield from (f"# note: {each}" for each in graph.notes)


def _comment(text: str) -> Iterator[str]:
    return (
        f"# {line}"
        for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False)
    )


def _has_cache(stage: Stage) -> bool:
    return any(binding.partition("=")[0].strip() == "CACHE_DIR" for binding in stage.bindings)


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
