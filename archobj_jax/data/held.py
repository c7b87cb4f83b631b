"""What was loaded last, kept for the threads that ask for it again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Slot(Generic[Value]):
    """A value, and the lock of the thread that loads it."""

    __slots__ = ("loading", "values")

    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.values: list[Value] = []


class Held(Generic[Key, Value]):
    """Values by key, the most recently used ones; threads that want the same one load it once.

    Args:
      most: how many to keep; all if not given.
    """

    def __init__(self, most: int | None = None):
        self._most = most
        self._lock = threading.Lock()
        self._slots: OrderedDict[Key, _Slot[Value]] = OrderedDict()

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """Returns the value of `key`, from `load` if it is not held; raises what that raises."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot()
                if self._most is not None and len(self._slots) > self._most:
                    self._slots.popitem(last=False)
            else:
                self._slots.move_to_end(key)
        if not slot.values:
            with slot.loading:
                if not slot.values:
                    slot.values.append(load())
        return slot.values[0]
