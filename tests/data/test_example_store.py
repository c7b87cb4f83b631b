import pickle

import numpy as np
import pytest

from archobj_jax.data import cache, example_store, manifest, shards
from archobj_jax.data.example_store import ExampleStore
from archobj_jax.errors import MachineError, UserError
from tests.data.corpora import examples, register_examples


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "EXAMPLE_RECORD_TOKENS", 100)
    task = register_examples("pairs", examples(50))
    return cache.ensure(task, "train", tmp_path / "cache")


def as_lists(made):
    return sorted([x["inputs"].tolist(), x["targets"].tolist()] for x in made)


def test_every_example_is_there_once_inputs_and_targets_together(opened):
    store = ExampleStore([opened])
    assert len(store) == 50
    found = [store.read(number) for number in range(50)]
    assert as_lists(found) == as_lists(examples(50))
    assert {array.dtype for x in found for array in x.values()} == {np.dtype(np.int32)}
    assert any(not x["inputs"].size for x in found), "inputs may be empty"


def test_lengths_are_those_of_the_examples_in_their_order(opened):
    store = ExampleStore([opened])
    expected = [[array.size for array in store.read(number).values()] for number in range(50)]
    found = example_store.lengths(opened)
    assert found.dtype == np.int32
    assert found.tolist() == expected


def test_the_manifest_says_what_a_document_is(opened):
    made = opened.manifest
    assert made.features == ("inputs", "targets")
    assert (made.documents, made.unit) == (50, "examples")
    assert made.tokens == sum(array.size for x in examples(50) for array in x.values())
    assert made.shards[0].records > 3
    assert manifest.read(opened.folder).shards == made.shards


def test_several_caches_are_numbered_through(opened, tmp_path):
    more = examples(20, seed=1)
    other = cache.ensure(register_examples("more", more), "train", tmp_path / "cache")
    store = ExampleStore([opened, other])
    assert len(store) == 70
    assert as_lists(map(store.read, range(50))) == as_lists(examples(50))
    assert as_lists(map(store.read, range(50, 70))) == as_lists(more)


def test_a_pickled_store_reads_the_same(opened):
    store = ExampleStore([opened])
    expected = store.read(37)
    again = pickle.loads(pickle.dumps(store)).read(37)
    assert as_lists([again]) == as_lists([expected])


def test_examples_without_targets_are_dropped_and_counted(tmp_path):
    made = examples(10)
    for example in made[::3]:
        example["targets"] = np.zeros(0, np.int32)
    opened = cache.ensure(register_examples("some", made), "train", tmp_path / "cache")
    assert (opened.manifest.documents, opened.manifest.empty) == (6, 4)
    assert len(example_store.lengths(opened)) == 6


def test_targets_that_are_all_empty_are_an_error_that_names_the_task(tmp_path):
    made = [{**x, "targets": np.zeros(0, np.int32)} for x in examples(10)]
    task = register_examples("none", made)
    with pytest.raises(
        UserError, match=r"targets of task 'none', split 'train', are empty.* 10 ex"
    ):
        cache.ensure(task, "train", tmp_path / "cache")


def test_no_example_is_an_error_that_names_the_task(tmp_path):
    task = register_examples("none", [])
    with pytest.raises(UserError, match="'none', split 'train', is empty"):
        cache.ensure(task, "train", tmp_path / "cache")


def test_damaged_lengths_are_named_and_mended_by_deleting_them(opened, tmp_path):
    path = opened.folder / opened.manifest.shards[0].lengths_file
    content = path.read_bytes()
    found = np.load(path)
    found[3, 0] += 1
    np.save(path, found)
    with pytest.raises(MachineError, match=rf"lengths {path} are damaged.*rm {path}"):
        example_store.lengths(opened)
    with pytest.raises(MachineError, match=rf"{path} is damaged, its SHA-256"):
        manifest.check_sums(opened.folder, opened.manifest)
    path.unlink()
    task = cache.registry.find("pairs")
    assert cache.ensure(task, "train", tmp_path / "cache") == opened
    assert path.read_bytes() == content


def test_a_damaged_record_is_named(opened):
    path = opened.folder / opened.manifest.shards[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    store = ExampleStore([opened])
    with pytest.raises(MachineError, match=rf"shard {path}, record \d+, is damaged"):
        [store.read(number) for number in range(50)]
