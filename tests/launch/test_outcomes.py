"""What exit statuses of several processes ask for, taken together."""

import pytest

from launch.outcomes import Verdict, judge


@pytest.mark.parametrize(
    ("statuses", "verdict", "status"),
    [
        ([0, 0], Verdict.DONE, 0),
        ([75, 0], Verdict.AGAIN, 75),
        ([130, 130], Verdict.AGAIN, 130),
        ([0, None], Verdict.AGAIN, 75),
        ([74, None], Verdict.AGAIN, 75),
        ([137, 75], Verdict.CRASHED, 137),
        ([137, 74], Verdict.CRASHED, 137),
        ([134, 75], Verdict.CRASHED, 134),
        ([74, 0], Verdict.TELL, 74),
        ([74, 1], Verdict.MEND, 1),
        ([None, 75, 2, 1], Verdict.MEND, 2),
        ([137, 1], Verdict.MEND, 1),
        ([127], Verdict.MEND, 127),
    ],
)
def test_the_outcome_of_all(statuses, verdict, status):
    outcome = judge(statuses)
    assert (outcome.verdict, outcome.status) == (verdict, status)


def test_no_process_has_no_outcome():
    with pytest.raises(ValueError, match="no process"):
        judge([])
