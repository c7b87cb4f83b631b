"""Mistakes of a study that show as it is expanded, told by the study's own names."""

import contextlib
from collections.abc import Iterator

from archobj_jax import gin_text
from archobj_jax.errors import UserError
from archobj_jax.study.chains import Leg
from archobj_jax.study.design import Evaluation, Study

_OWN = {
    "TRAIN_STEPS": "the budgets of the chains",
    "RANDOM_SEED": "Study.seeds",
    "MODEL_DIR": "--store",
    "EVAL_OUTPUT_DIR": "--store",
    "INITIAL_CHECKPOINT_PATH": "the chains",
    "CHECKPOINT_PATH": "the stage that is evaluated",
}
"""What a study binds itself, by what it is set."""


def check_own(study: Study) -> None:
    """Checks that the study binds nothing that it sets itself.

    Raises:
      UserError: it does.
    """
    given = [(f'Study.bindings["{kind}"]', each) for kind, each in study.bindings.items()]
    given += [
        (f"Evaluation.bindings of '{each.name}'", each.bindings) for each in study.evaluations
    ]
    for where, bindings in given:
        for binding in bindings:
            name = binding.partition("=")[0].strip()
            if name in _OWN:
                raise UserError(
                    f"{where} has {binding}: a study sets {name} by {_OWN[name]}; leave it out."
                )


@contextlib.contextmanager
def told_where(study: Study, kind: str, evaluation: Evaluation | None = None) -> Iterator[None]:
    """Has mistakes name where the study has what they call a flag.

    Args:
      study: whose files and bindings are read.
      kind: of the stage.
      evaluation: that the stage is.

    Raises:
      UserError: as it was raised, but for the names.
    """
    files, places = "Study.gin_files", {}
    for group in ("train", kind) if evaluation is None else (kind,):
        for binding in study.bindings.get(group, ()):
            places[_flag(binding)] = f'Study.bindings["{group}"]'
    if evaluation is not None:
        files = f"Evaluation.gin_file of '{evaluation.name}'"
        for binding in evaluation.bindings:
            places[_flag(binding)] = f"Evaluation.bindings of '{evaluation.name}'"
    try:
        yield
    except UserError as error:
        text = str(error).replace("--gin_file: ", f"{files}: ", 1)
        longest = max((flag for flag in places if flag in text), key=len, default=None)
        if longest is not None:
            named = f"{places[longest]}, {longest.removeprefix('--gin.')}"
            text = text.replace(longest, named)
        raise type(error)(text) from error


def _flag(binding: str) -> str:
    """A binding as messages of `config` name it."""
    name, equals, value = binding.partition("=")
    return f"--gin.{name.strip()}={value.strip()}" if equals else f"--gin.{binding}"


_RULES = {
    "ED": '("positions_shared", "fill_encoder")',
    "decoder": '("positions_per_layer", "take_decoder") or ("positions_per_layer", "take_encoder")',
}
"""That make an encoder-decoder of a decoder, and a decoder of it; see `parameter_rules`."""


def check_stacks(before: Leg, now: Leg, config: str, *, kind: str, where: str) -> None:
    """Checks that there are rules if a decoder becomes an encoder-decoder, or the other way round.

    Args:
      before: the leg that is started from.
      now: the leg.
      config: its bindings, as gin text.
      kind: of its stage.
      where: begins the message.

    Raises:
      UserError: there are none, and the stage would fail as it starts.
    """
    bound = gin_text.bindings(config)
    rules = bound.get("adaptation.InitialCheckpoint.rules", "()")
    if rules == "%INITIAL_CHECKPOINT_RULES":
        rules = bound.get("INITIAL_CHECKPOINT_RULES", "()")
    if (before.architecture == "ED") == (now.architecture == "ED") or rules != "()":
        return
    expected = _RULES["ED" if now.architecture == "ED" else "decoder"]
    raise UserError(
        f"{where}: {now.pair} has other parameters than {before.pair}, and no rules say where they "
        f'come from. Study.bindings["{kind}"] may bind them, as a text, for all stages of its kind '
        f"(what needs none is then a study of its own): INITIAL_CHECKPOINT_RULES={expected}."
    )
