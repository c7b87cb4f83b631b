"""Finding SeqIO tasks and mixtures by name, and the parts of a task that the stack runs itself."""

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import seqio

from archobj_jax import native_messages
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.objectives import Objective

DEFAULT_MODULE = "tasks.pretraining"
FEATURE = "targets"
"""The feature of a task's examples, before its objective, that holds a document's tokens."""

RANKED = "_score_eval"
"""Ends the name of a task for rank classification, as T0 has it."""

_LISTED = 12
"""Names that a message lists."""

Modules = str | Sequence[str] | None


def find(name: str, module: Modules = None) -> seqio.Task | seqio.Mixture:
    """Returns the task or mixture `name`, after importing the modules that register tasks.

    Args:
      name: a registered name (gin: MIXTURE_OR_TASK_NAME).
      module: dotted name of a module to import first, or several (MIXTURE_OR_TASK_MODULE);
        `tasks.pretraining` is imported always.

    Raises:
      UserError: a module cannot be found or fails, or no task or mixture has that name.
    """
    _leave_accelerators_alone()
    modules = _imported(module)
    if name not in (names := _names()):
        raise UserError(
            f"no task or mixture is named '{name}' (MIXTURE_OR_TASK_NAME)."
            f"{_explained(name, modules) or did_you_mean(name, names) or _listed(names)} Tasks of "
            "your own are registered by the module that MIXTURE_OR_TASK_MODULE names"
        )
    return seqio.get_mixture_or_task(name)


def needed(name: str, module: Modules = None) -> str:
    """Returns what must be set for `name` to be registered, of names that not all machines have.

    Empty for all others. A module that registers such names says so by `explain_missing(name)`.

    Raises:
      UserError: a module cannot be found or fails.
    """
    _leave_accelerators_alone()
    return _explained(name, _imported(module)).strip()


def registered(name: str, module: Modules = None) -> bool:
    """Whether this machine has a task or mixture `name`.

    Raises:
      UserError: a module cannot be found or fails.
    """
    _leave_accelerators_alone()
    _imported(module)
    return name in _names()


def module_names(module: Modules) -> tuple[str, ...]:
    """Returns `module` as a tuple of names."""
    return (module,) if isinstance(module, str) else tuple(module or ())


def tasks(provider: seqio.Task | seqio.Mixture, split: str) -> dict[seqio.Task, float]:
    """Returns the tasks of `provider` that have `split`, each with its mixing rate (sum 1).

    Raises:
      UserError: no task has the split, or all of those that do have rate 0.
    """
    every = seqio.get_subtasks(provider)
    chosen = [task for task in every if split in task.splits]
    if not chosen:
        known = sorted({known for task in every for known in task.splits})
        raise UserError(
            f"'{provider.name}' has no split '{split}'.{did_you_mean(split, known)} "
            f"Its splits: {', '.join(known)}"
        )
    if isinstance(provider, seqio.Task):
        return {provider: 1.0}
    rates = {task: float(provider.get_rate(task)) for task in chosen}
    rates = {task: rate for task, rate in rates.items() if rate > 0}
    if not rates:
        raise UserError(f"every task of mixture '{provider.name}' with split '{split}' has rate 0")
    return {task: rate / sum(rates.values()) for task, rate in rates.items()}


def cached_steps(task: seqio.Task) -> list[Callable[..., Any]]:
    """Returns the steps of `task` before its cache placeholder; they run once, into the cache."""
    return list(task.preprocessors[: _placeholder(task)])


def objective(task: seqio.Task) -> Objective:
    """Returns the objective that stands after the cache placeholder of `task`.

    Raises:
      UserError: there is none, or another step stands beside it.
    """
    steps = task.preprocessors[_placeholder(task) + 1 :]
    if len(steps) == 1 and isinstance(steps[0], Objective):
        return steps[0]
    trained = task.name.removesuffix(RANKED)
    if trained != task.name and trained in seqio.TaskRegistry.names():
        raise UserError(
            f"task '{task.name}' is for rank classification: its examples are the answer choices, "
            f"right and wrong, which are only evaluated; take '{trained}', without "
            f"'{RANKED}'"
        )
    found = ", ".join(map(step_name, steps)) or "nothing"
    raise UserError(
        f"task '{task.name}' has {found} after its CacheDatasetPlaceholder; expected one objective "
        "alone, such as archobj_jax.objectives.FullLm()"
    )


def vocabulary(task: seqio.Task) -> seqio.Vocabulary:
    """Returns the vocabulary of the documents of `task`.

    Raises:
      UserError: the task has no feature "targets", or its features disagree.
    """
    features = task.output_features
    if FEATURE not in features:
        raise UserError(
            f"task '{task.name}' has the output features {', '.join(features)}; expected "
            f"'{FEATURE}', the tokens of a document"
        )
    chosen = features[FEATURE].vocabulary
    for name, feature in features.items():
        if feature.vocabulary != chosen:
            raise UserError(
                f"task '{task.name}': the vocabulary of feature '{name}', {feature.vocabulary}, is "
                f"not that of '{FEATURE}', {chosen}; expected one for all features"
            )
    return chosen


def step_name(step: Callable[..., Any]) -> str:
    """Returns a name for a preprocessing step: a function's, or the class of an object."""
    return seqio.utils.function_name(step) or type(step).__name__


def _names() -> list[str]:
    return [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]


def _placeholder(task: seqio.Task) -> int:
    for index, step in enumerate(task.preprocessors):
        if isinstance(step, seqio.CacheDatasetPlaceholder):
            return index
    raise UserError(
        f"task '{task.name}' has no seqio.CacheDatasetPlaceholder() among its preprocessors; "
        "expected one after the tokenising steps and before the objective"
    )


def _explained(name: str, modules: Sequence[ModuleType]) -> str:
    """What a module that registers tasks says of a name that it did not register."""
    told = (explain(name) for m in modules if (explain := getattr(m, "explain_missing", None)))
    return "".join(told)


def _listed(names: Sequence[str]) -> str:
    shown = [name for name in names if not name.endswith(RANKED)]
    more = f" and {len(names) - _LISTED} more" if names[_LISTED:] else ""
    return f" Registered: {', '.join(shown[:_LISTED])}{more}."


def _imported(module: Modules) -> list[ModuleType]:
    return [_import(each) for each in (DEFAULT_MODULE, *module_names(module))]


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module != missing and not module.startswith(missing + "."):
            raise UserError(
                f"module '{module}' (MIXTURE_OR_TASK_MODULE) needs '{missing}', which is not "
                "installed"
            ) from error
        raise UserError(
            f"no module is named '{module}' (MIXTURE_OR_TASK_MODULE); expected one on the Python "
            "path that registers SeqIO tasks"
        ) from error
    except Exception as error:
        if module == DEFAULT_MODULE:
            raise
        raise UserError(
            f"module '{module}' (MIXTURE_OR_TASK_MODULE) fails{_place(module, error)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _place(module: str, error: Exception) -> str:
    """Where in the file of `module` an error came out, ` at FILE, line N`."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}, line {error.lineno}"
    spec = importlib.util.find_spec(module)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if spec is not None and frame.filename == spec.origin]
    return f" at {own[-1].filename}, line {own[-1].lineno}" if own else ""


def _leave_accelerators_alone() -> None:
    """Keeps TensorFlow, here only for SeqIO, from claiming the memory that JAX needs."""
    with native_messages.held_back():
        import tensorflow as tf

        if tf.config.get_visible_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
