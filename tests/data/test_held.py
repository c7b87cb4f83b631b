import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from archobj_jax.data.held import Held


def test_the_values_used_last_are_kept():
    loaded = []
    held = Held(2)

    def get(key):
        return held.get(key, lambda: loaded.append(key) or key * 10)

    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert loaded == [1, 2, 3, 2]


def test_threads_that_want_the_same_value_load_it_once():
    loads, ready = [], threading.Barrier(4)
    held = Held()

    def load():
        loads.append(None)
        time.sleep(0.05)
        return object()

    def get(_):
        ready.wait()
        return held.get("key", load)

    with ThreadPoolExecutor(4) as pool:
        values = set(pool.map(get, range(4)))
    assert (len(values), len(loads)) == (1, 1)


def test_what_could_not_be_loaded_is_loaded_the_next_time():
    held = Held()
    with pytest.raises(OSError, match="away"):
        held.get(1, lambda: (_ for _ in ()).throw(OSError("away")))
    assert held.get(1, lambda: 7) == 7
