"""Work that is killed goes on where it was; work on something else does not use its results."""

import json

import numpy as np
import pytest
from etils import epath

from archobj_jax.errors import MachineError
from archobj_jax.inference import journal
from archobj_jax.inference.journal import Journal, fingerprint
from archobj_jax.inference.questions import Question


class Work:
    """Squares numbers; dies before `dies_at`, as a killed process would."""

    def __init__(self, dies_at: int | None = None):
        self.dies_at = dies_at
        self.worked: list[int] = []

    def __call__(self, number: int) -> dict[str, float]:
        if number == self.dies_at:
            raise KeyboardInterrupt
        self.worked.append(number)
        return {"square": number**2 / 7}


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Journal:
    monkeypatch.setattr(journal, "_SECONDS", -1.0)  # a file for each batch
    return Journal(epath.Path(tmp_path))


def complete(kept: Journal, work: Work, fingerprint: str = "0" * 12) -> list:
    return kept.complete("squares / 1", fingerprint, 5, work)


def test_a_killed_evaluation_does_each_batch_once(kept: Journal):
    undisturbed = complete(Journal(kept.folder / "other"), Work())
    for dies_at in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            complete(kept, Work(dies_at))
    last = Work()
    assert complete(kept, last) == undisturbed == [{"square": n**2 / 7} for n in range(5)]
    assert last.worked == [4]
    again = Work()
    assert complete(kept, again) == undisturbed
    assert again.worked == []


def test_a_torn_file_is_done_again(kept: Journal):
    undisturbed = complete(kept, Work())
    files = sorted(kept.folder.glob("*/*.json"))
    files[2].write_text('[{"squ')
    work = Work()
    assert complete(kept, work) == undisturbed
    assert work.worked == [2, 3, 4]


def test_results_of_something_else_are_not_used(kept: Journal):
    complete(kept, Work())
    other = Work()
    complete(kept, other, fingerprint="1" * 12)
    assert other.worked == [0, 1, 2, 3, 4]


def test_what_is_done_is_counted(kept: Journal):
    with pytest.raises(KeyboardInterrupt):
        complete(kept, Work(3))
    assert kept.count("squares / 1", "0" * 12, 5) == 3
    assert kept.count("other", "0" * 12, 5) == 0


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot write .*What was evaluated before is kept"):
        complete(Journal(epath.Path(tmp_path / "file")), Work())


def test_a_number_that_json_has_not_is_no_result(kept: Journal):
    with pytest.raises(ValueError, match="JSON compliant"):
        kept.complete("nan", "0" * 12, 1, lambda _: float("nan"))
    assert not list(kept.folder.glob("*/*.json"))


def test_fingerprints_tell_tokens_and_boundaries_apart():
    def of(*parts: list[int]) -> str:
        arrays = [np.array(part, np.int32) for part in parts]
        return fingerprint(questions=[Question(arrays[0], tuple(arrays[1:]))])

    different = {of([1, 2], [3]), of([1], [2, 3]), of([], [1, 2, 3]), of([1], [2], [3])}
    assert len(different) == 4
    assert of([1], [2], [3]) == of([1], [2], [3])
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1) != fingerprint(a=2, b=1)
    assert json.dumps(of([1], [2]))  # plain text
