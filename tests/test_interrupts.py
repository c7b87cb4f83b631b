"""Ctrl-C that arrives where Python cannot raise."""

import signal
import sys
import time

import pytest

from archobj_jax import interrupts


class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)  # where it is raised, if not before


def test_a_ctrl_c_in_a_destructor_is_raised_after_it():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupts.kept():  # noqa: PT012
        each = Interrupted()
        del each
        while time.monotonic() < began + 10:
            time.sleep(0.01)
    assert time.monotonic() < began + 5


def test_what_else_cannot_be_raised_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Fails:
        def __del__(self):
            raise ValueError

    with interrupts.kept():
        each = Fails()
        del each
    assert [each.exc_type for each in told] == [ValueError]
