"""What is told of a stage at work, whatever it has written so far."""

import io
import json

import pytest

from archobj_jax.study import progress, status
from archobj_jax.study.progress import Progress
from archobj_jax.study.store import Store
from tests.study.synthetic import graph, study

NOT_FINITE = {"step": 7, "loss": None, "tokens_per_second": 50.0, "seconds_per_step": 2.0}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What is told of the first stage of a kind that has written a file."""
    monkeypatch.setattr(progress, "_READ_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)

    def telling(kind: str, name: str, content: bytes) -> list[str]:
        store, said = Store(str(tmp_path)), []
        stage = next(each for each in graph(study()) if each.kind == kind)
        store.path(stage, "").mkdir(parents=True)
        store.path(stage, "log.txt").write_bytes(b"archobj: error: of an older attempt\n")
        with Progress(stage, store, "[1/1]", said.append) as shown:
            with store.path(stage, name).open("ab") as file:
                file.write(content)
            shown.update()
            shown.end("done")
        return [line.removeprefix("[1/1] ") for line in said[1:]]

    return telling


def test_of_training_it_is_step_loss_speed_and_the_time_left_by_its_own_records(told):
    record = {**NOT_FINITE, "loss": 2.5}
    content = json.dumps(record) + '\n{"step": 8, "lo'
    expected = "loss 2.5000, 50 tokens/s"
    assert told("pretrain", "metrics.jsonl", content.encode()) == [
        f"step 7 of 30  {expected}, 00:46 left", f"done in 0 s  {expected}",
    ]  # fmt: skip


def test_a_loss_that_is_not_finite_is_told_as_such(told):
    content = json.dumps(NOT_FINITE).encode()
    assert told("pretrain", "metrics.jsonl", content)[0] == (
        "step 7 of 30  loss not finite, 50 tokens/s, 00:46 left"
    )


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"", "starting"),
        (b"Caching embedded_full_lm\n\n", "Caching embedded_full_lm"),
        ("tokens: 5%|▌   | 1/20\rtokens: 45%|████▌     | 9/20 [00:01]\r\n".encode(),
         "tokens: 45%  9/20 [00:01]"),
        (b"x" * 9000, "x" * 99 + "…"),
    ],
)  # fmt: skip
def test_of_training_without_a_record_it_is_what_it_said_last(told, log, expected):
    assert told("pretrain", "log.txt", log)[0] == f"step 0 of 30  {expected}"


@pytest.mark.parametrize("kind", ["pretrain", "evaluate"])
def test_a_bar_has_no_rate_of_its_own(tmp_path, monkeypatch, kind):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "_READ_SECONDS", -1.0)
    store = Store(str(tmp_path))
    stage = next(each for each in graph(study()) if each.kind == kind)
    with Progress(stage, store, "[1/1]", print) as shown:
        store.path(stage, "").mkdir(parents=True)
        store.path(stage, "metrics.jsonl").write_text(json.dumps({**NOT_FINITE, "loss": 2.5}))
        shown.update()
        last = screen.getvalue().rpartition("\r")[2].strip()
    if kind == "pretrain":
        assert last.endswith("| 7/30 [00:00, loss 2.5000, 50 tokens/s, 00:46 left]")
    else:
        assert last == "[00:00, starting]"


def test_a_character_that_is_cut_off_is_no_error(told):
    log = "first\n50 % of 数据".encode()[:-1]
    assert told("evaluate", "log.txt", log) == [
        "50 % of 数\N{REPLACEMENT CHARACTER}",
        "done in 0 s",
    ]


def test_what_cannot_be_read_is_told_and_ends_nothing(told):
    first, last = told("pretrain", "metrics.jsonl", b'{"loss": 2.5}')
    assert first.startswith("how far it is cannot be read (KeyError")
    assert last == "done in 0 s"


def test_the_table_of_states_takes_a_loss_that_is_not_finite(tmp_path):
    of, store = graph(study()), Store(str(tmp_path))
    stage = next(iter(of))
    store.path(stage, "").mkdir(parents=True)
    store.path(stage, "metrics.jsonl").write_text(json.dumps(NOT_FINITE))
    row = next(line for line in status.status_table(of, store).splitlines() if "begun" in line)
    assert row.split("begun")[1].split() == ["7", "of", "30", "not", "finite", "50", "1", "min"]
