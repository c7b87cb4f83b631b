"""The values of an example as templates take them: those of JSON, and nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Returns a copy of `value` made of None, bool, int, float, str, list and dict.

    Args:
      value: of those types, tuples or numpy arrays and scalars of them, as JSON, Parquet and
        Hugging Face data sets give.

    Raises:
      TypeError: it holds something else.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"a value of type {type(value).__name__} is not one that a template reads")
