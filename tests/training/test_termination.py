"""SIGTERM and Ctrl-C: which of them may come twice."""

import signal

import jax
import pytest

from archobj_jax.training.termination import Termination


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as Python has it: a shell that starts something in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_sigterm_changes_nothing():
    with Termination() as termination:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert termination.requested(1)
        assert (termination.reason, termination.status) == ("SIGTERM", 75)


def test_a_second_ctrl_c_interrupts():
    with Termination() as termination:
        signal.raise_signal(signal.SIGINT)
        assert termination.requested(1)
        assert termination.status == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_of_several_processes_a_ctrl_c_is_a_sigterm_and_a_second_interrupts(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    taken = []  # by the handler of JAX's coordination service
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        with Termination():
            signal.raise_signal(signal.SIGINT)
            assert taken == [signal.SIGTERM]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
