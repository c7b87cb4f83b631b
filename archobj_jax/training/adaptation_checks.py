"""What must agree between a checkpoint and the run that starts from it; checked before any read."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError
from archobj_jax.training.parameter_rules import (
    NAMED_RULES,
    Origin,
    Rule,
    Uncovered,
    helpful,
    named,
    origins,
    unused,
)
from archobj_jax.training.state import Blueprint

_SHOWN = 30
"""Parameters that an error lists."""

_MEANINGS = ("num_heads", "head_dim", "kv_heads", "mlp_activations", "relative_max_distance")
"""Of a network, what its parameters mean and their shapes may not show."""


def checked_origins(
    path: epath.Path, blueprint: Blueprint, source: Blueprint, rules: Sequence[str | Rule]
) -> dict[str, Origin]:
    """Where every parameter comes from.

    Args:
      path: of the checkpoint.
      blueprint: of the model to train.
      source: of the checkpoint's model.
      rules: as INITIAL_CHECKPOINT_RULES has them.

    Raises:
      UserError: the networks compute something else, a rule concerns no parameter, or parameters
        are not covered.
    """
    _check_meanings(path, blueprint.architecture.network, source.architecture.network)
    found, uncovered = origins(blueprint.infos, source.infos, named(rules))
    if uncovered:
        hints = helpful(blueprint.infos, source.infos, rules)
        raise _uncovered(path, uncovered, rules, hints)
    for each in unused(blueprint.infos, source.infos, rules):
        raise UserError(
            f"INITIAL_CHECKPOINT_RULES: {each!r} concerns no parameter of this model or of {path}; "
            "leave it out, or mend its names."
        )
    return found


def check_slots(
    path: epath.Path, expected: Mapping[str, Any], arrays: Mapping[str, Sequence[Any]]
) -> None:
    """Checks that the checkpoint's optimizer is this run's.

    Args:
      path: of the checkpoint.
      expected: what this run's optimizer would have for the checkpoint's model, by name.
      arrays: shape and checksum of what was saved, by name.

    Raises:
      UserError: it is not.
    """
    uncovered = []
    for name, leaf in expected.items():
        saved = arrays.get(f"opt_state/{name}", [None])[0]
        if saved != list(leaf.shape):
            uncovered.append(Uncovered(name, leaf.shape, None if saved is None else tuple(saved)))
    if uncovered:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH: the optimizer state in {path} is of another optimizer; "
            "start a new one with --gin.adaptation.InitialCheckpoint.optimizer_state=fresh. "
            f"{len(uncovered)} arrays differ:\n{_listed(uncovered)}"
        )


def _check_meanings(path: epath.Path, here: NetworkConfig, there: NetworkConfig) -> None:
    different = [
        f"{field} is {getattr(here, field)} here, {getattr(there, field)} there"
        for field in _MEANINGS
        if getattr(here, field) != getattr(there, field)
    ]
    learned = [network.positions.startswith("relative") for network in (here, there)]
    if here.positions != there.positions and not all(learned):
        different.append(f"positions is {here.positions} here, {there.positions} there")
    if different:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH: the network of {path} computes something else: "
            f"{'; '.join(different)}. Bind NetworkConfig as it is there."
        )


def _uncovered(
    path: epath.Path,
    uncovered: Sequence[Uncovered],
    rules: Sequence[str | Rule],
    hints: Sequence[Sequence[str]],
) -> UserError:
    advice = f"the rules are {', '.join(NAMED_RULES)}, or Rules of your own"
    if hints:
        flags = (f"--gin.INITIAL_CHECKPOINT_RULES='{_tuple([*rules, *hint])}'" for hint in hints)
        advice = f"all would be covered by {' or by '.join(flags)}"
    return UserError(
        f"INITIAL_CHECKPOINT_PATH: {path} holds another model, and no rule of "
        f"INITIAL_CHECKPOINT_RULES covers {len(uncovered)} parameters; {advice}:\n"
        + _listed(uncovered)
    )


def _tuple(rules: Sequence[str | Rule]) -> str:
    """As gin reads it; `Rule`s only as a reminder."""
    return "(" + " ".join(f'"{rule}",' for rule in rules) + ")"


def _listed(uncovered: Sequence[Uncovered]) -> str:
    lines = [f"  {one}" for one in uncovered[:_SHOWN]]
    if uncovered[_SHOWN:]:
        lines.append(f"  and {len(uncovered) - _SHOWN} more")
    return "\n".join(lines)
