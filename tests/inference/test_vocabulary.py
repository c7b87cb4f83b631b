"""A checkpoint's vocabulary comes from its file, else from its task; it is the same in any case."""

from pathlib import Path
from typing import Any

import pytest
import seqio

from archobj_jax.data import registry, vocabularies
from archobj_jax.data.embedded_source import EmbeddedCorpus
from archobj_jax.data.pieces import Pieces
from archobj_jax.errors import UserError
from archobj_jax.inference.vocabulary import recorded_vocabulary
from tests import sentences


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A SentencePiece model in a cache's folder of vocabularies."""
    path = tmp_path_factory.mktemp("cache") / "vocabularies" / "some.model"
    path.parent.mkdir()
    path.write_bytes(sentences.model())
    return path


@pytest.fixture
def about(file: Path) -> dict[str, Any]:
    """What is saved about a checkpoint of a task that is registered nowhere."""
    vocabulary = seqio.SentencePieceVocabulary(str(file), extra_ids=10)
    return {
        "model": {
            "mixture_or_task_name": "forgotten",
            "mixture_or_task_module": None,
            "cache_dir": str(file.parent.parent),
            "vocabulary": vocabularies.record(vocabulary),
        }
    }


@pytest.fixture
def task(monkeypatch) -> dict[str, Any]:
    """Makes `forgotten` a task with the "vocabulary" that is put in."""
    made: dict[str, Any] = {"asked": 0}

    def find(name: str, module: object) -> seqio.Task:
        made["asked"] += 1
        feature = seqio.Feature(made["vocabulary"], add_eos=False)
        return seqio.Task(name, EmbeddedCorpus(), {"targets": feature})

    monkeypatch.setattr(registry, "find", find)
    return made


def test_it_is_read_from_its_file_without_its_task(about, task):
    found = recorded_vocabulary(about, cache_dir=None, where="it")
    assert isinstance(found, Pieces)
    assert found.fingerprint == about["model"]["vocabulary"]["fingerprint"]
    assert task["asked"] == 0


def test_it_is_read_from_another_cache(about, task, file, tmp_path):
    moved = tmp_path / "vocabularies" / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    about["model"]["vocabulary"]["file"] = "/gone/vocabularies/some.model"
    assert isinstance(recorded_vocabulary(about, cache_dir=str(tmp_path), where="it"), Pieces)
    assert task["asked"] == 0


@pytest.mark.parametrize("content", [b"no model", sentences.model(pieces=310)])
def test_where_its_file_is_another_the_task_is_asked(about, task, file, tmp_path, content):
    (tmp_path / file.name).write_bytes(content)
    about["model"]["vocabulary"]["file"] = str(tmp_path / file.name)
    task["vocabulary"] = seqio.SentencePieceVocabulary(str(file), extra_ids=10)
    found = recorded_vocabulary(about, cache_dir=None, where="it")
    assert found is task["vocabulary"]


def test_checkpoints_that_do_not_record_a_file_ask_the_task(about, task, file):
    del about["model"]["vocabulary"]["file"]
    task["vocabulary"] = seqio.SentencePieceVocabulary(str(file), extra_ids=10)
    assert recorded_vocabulary(about, cache_dir=None, where="it") is task["vocabulary"]


def test_a_task_of_another_vocabulary_is_refused(about, task, tmp_path):
    about["model"]["vocabulary"]["file"] = str(tmp_path / "gone.model")
    task["vocabulary"] = seqio.ByteVocabulary()
    with pytest.raises(UserError, match=r"it was trained with .* task 'forgotten', which is anoth"):
        recorded_vocabulary(about, cache_dir=None, where="it")
