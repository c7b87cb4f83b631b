"""The meter: what an interval's seconds are told as, once each."""

import time

import pytest

from archobj_jax.training.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """A performance counter that only the test moves."""
    now = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_what_is_claimed_between_two_records_is_not_told_again(clock):
    meter = Meter(step_flops=1.0, peak_flops=1.0, tokens=0, skipped_steps=0, stop_on_nonfinite=True)
    clock(6.0)
    with meter.waiting_for_input():
        clock(1.0)
    assert meter.claim() == pytest.approx((6.0, 1.0))
    with meter.paused():
        clock(50.0)
    clock(3.0)
    assert meter.claim() == pytest.approx((3.0, 0.0))
    clock(2.0)
    record = meter.record()
    assert (meter.working, meter.waiting) == pytest.approx((2.0, 0.0))
    assert record["input_wait_share"] == pytest.approx(1.0 / 12.0)
    clock(4.0)
    assert meter.claim() == pytest.approx((4.0, 0.0))
