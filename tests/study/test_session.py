"""What a session writes, and when."""

import dataclasses
import threading

import pytest

from archobj_jax.errors import UserError
from archobj_jax.study import execution
from archobj_jax.study.report import writing
from archobj_jax.study.runner import Runner
from archobj_jax.study.session import Session
from archobj_jax.study.store import Store
from tests.study.synthetic import CHAINS, FakeArchobj, graph, study


@pytest.fixture
def session(tmp_path):
    of = study(chains=CHAINS[:1])
    store = Store(str(tmp_path))
    Runner(graph(of), store, {}, execute=FakeArchobj(graph(of), store), say=lambda _: None).run()
    return Session(of, graph(of), store, {})


def test_files_of_an_earlier_report_are_removed_and_no_others(session, tmp_path):
    folder = tmp_path / "studies" / "synthetic" / "report"
    (folder / "old.csv").mkdir(parents=True)
    old = ["pretraining_gone.csv", "gone.svg", "gone.html", "gone.md"]
    for name in (*old, "mine.txt"):
        (folder / name).write_text("old")
    session.report()
    found = {path.name for path in folder.iterdir()}
    assert not found & set(old)
    assert {"index.html", "report.md", "cost.csv", "mine.txt", "old.csv"} <= found


def test_a_report_waits_for_another_that_is_being_written(session, tmp_path, monkeypatch):
    written = threading.Event()
    monkeypatch.setattr(writing, "write_report", lambda *_: written.set())
    with execution.only_one(tmp_path / "studies" / "synthetic", None):
        reporting = threading.Thread(target=session.report)
        reporting.start()
        assert not written.wait(timeout=1)
    reporting.join()
    assert written.is_set()


def test_a_run_writes_the_report_under_the_same_lock(session, tmp_path):
    session.run(dry_run=False, beside_others=True)
    assert (tmp_path / "studies" / "synthetic" / "report" / "index.html").exists()


def test_a_store_that_cannot_be_made_is_told_as_such(session, tmp_path):
    (tmp_path / "file").touch()
    there = dataclasses.replace(session, store=Store(str(tmp_path / "file" / "store")))
    with pytest.raises(UserError, match=r"--store=.*/file/store: this is no folder"):
        there.run(dry_run=False, beside_others=False)


def test_a_report_of_nothing_makes_no_folders(tmp_path):
    of = study(chains=CHAINS[:1])
    with pytest.raises(UserError, match="nothing to report"):
        Session(of, graph(of), Store(str(tmp_path / "misspelt")), {}).report()
    assert not (tmp_path / "misspelt").exists()
