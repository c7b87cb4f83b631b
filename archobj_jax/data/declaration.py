"""What a cache was made of: its source, the steps before the cache, the vocabulary, the features.

Two tasks with equal declarations share a cache, as the three objectives over one corpus do. A
declaration is made without reading the corpus or loading the vocabulary.
"""

import ast
import functools
import hashlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import seqio

from archobj_jax.data import registry, vocabularies


def declare(task: seqio.Task) -> dict[str, object]:
    """Returns the declaration of the cache of `task`, ready for JSON.

    Raises:
      UserError: the task has no objective, which says what features documents have.
    """
    return {
        "source": _source(task.source),
        "steps": [_step(step) for step in registry.cached_steps(task)],
        "vocabulary": vocabularies.declaration(registry.vocabulary(task)),
        "features": list(registry.objective(task).document_features),
    }


def folder(task: seqio.Task) -> str:
    """Returns the name of the cache's folder: the source's name and 8 hex digits."""
    text = json.dumps(declare(task), sort_keys=True)
    return f"{_source_name(task)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _source_name(task: seqio.Task) -> str:
    source = task.source
    name = getattr(source, "name", None)
    if isinstance(source, seqio.TfdsDataSource):
        name = source.tfds_dataset.name
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name or task.name).strip("_")


def _source(source: seqio.DataSource) -> object:
    if hasattr(source, "declaration"):
        return source.declaration()
    kind = type(source).__name__
    if isinstance(source, seqio.TfdsDataSource):
        dataset = source.tfds_dataset
        return {"class": kind, "name": dataset.name, "data_dir": dataset.data_dir}
    if isinstance(source, seqio.FunctionDataSource):
        return {"class": kind, "function": _step(source._dataset_fn), "splits": source.splits}
    return {"class": kind, "description": _plain(source)}


def _step(step: Callable[..., Any]) -> object:
    """Declares a step: its name, bound arguments, and for a function its code without comments."""
    if isinstance(step, functools.partial):
        arguments = {"positional": step.args, **step.keywords}
        return {"step": _step(step.func), "arguments": _plain(arguments)}
    if not inspect.isfunction(step):
        return {"step": registry.step_name(step), "arguments": _plain(step)}
    function = inspect.unwrap(step)
    name = f"{function.__module__}.{function.__qualname__}"
    library = function.__module__.partition(".")[0] in ("seqio", "t5", "tensorflow")
    return {"step": name} if library else {"step": name, "code": _code(function)}


def _code(function: Callable[..., Any]) -> str:
    """Returns a hash of the source of `function` that comments and layout do not change."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
        text = ast.unparse(ast.parse(text))
    except (OSError, SyntaxError):  # typed at a prompt, or a lambda inside another expression
        text = function.__code__.co_code.hex()
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """Returns `value` as JSON has it, without addresses in memory."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if inspect.isroutine(value):
        return _step(value)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
