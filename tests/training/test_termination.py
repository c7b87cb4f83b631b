"""SIGTERM and Ctrl-C: which of them may come twice."""

import signal

import pytest

from archobj_jax.training.termination import Termination


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
