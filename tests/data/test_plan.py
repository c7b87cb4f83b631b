import json
import pickle

import numpy as np
import pytest

from archobj_jax.data import cache, packing, plan
from archobj_jax.data.packing import Member
from archobj_jax.errors import MachineError
from archobj_jax.objectives import AsGiven, DecoderLayout, EncoderDecoderLayout
from tests.data.corpora import examples, register_examples

LENGTHS = {"inputs": 30, "targets": 10}


@pytest.fixture
def members(tmp_path):
    opened = cache.ensure(register_examples("pairs", examples(80)), "train", tmp_path)
    return [Member("pairs", 1.0, opened)]


@pytest.fixture
def make(members, tmp_path):
    def ensure(layout=DecoderLayout(), lengths=LENGTHS, seed=0):
        return plan.ensure(members, AsGiven(), layout, lengths, seed=seed, cache_dir=tmp_path)

    return ensure


def test_a_plan_on_disk_is_what_was_packed(make, members):
    packed = packing.pack(members, AsGiven(), DecoderLayout(), LENGTHS, 0)
    for found in (make(), make(), pickle.loads(pickle.dumps(make()))):
        assert found.statistics == packed.statistics
        assert len(found) == len(packed.rows) - 1
        rows = np.concatenate([found.row(row) for row in range(len(found))])
        np.testing.assert_array_equal(rows, packed.examples)


def test_a_second_run_packs_nothing(make, monkeypatch):
    first = make()
    monkeypatch.setattr(packing, "pack", lambda *_: pytest.fail("packed again"))
    assert make().folder == first.folder


def test_what_is_packed_otherwise_lies_elsewhere(make):
    changes = [
        {},
        {"layout": EncoderDecoderLayout()},
        {"lengths": {"inputs": 31, "targets": 9}},
        {"seed": 1},
    ]
    assert len({make(**change).fingerprint for change in changes}) == len(changes)


def test_the_file_says_what_it_is_made_of(make):
    found = make()
    content = json.loads((found.folder / "plan.json").read_text())
    ((task, split, rate, _),) = content["made_of"]["tasks"]
    assert (task, split, rate) == ("pairs", "train", 1.0)
    assert content["statistics"]["examples"] == 80
    assert {path.name for path in found.folder.iterdir()} == {
        "plan.json", "examples.npy", "rows.npy", ".lock"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["examples.npy", "rows.npy"])
def test_a_damaged_array_is_named(make, name):
    folder = make().folder
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(MachineError, match=rf"{name} is damaged, its SHA.*rm -r {folder}"):
        make()


def test_a_damaged_description_is_named(make):
    folder = make().folder
    (folder / "plan.json").write_text("{")
    with pytest.raises(MachineError, match=rf"plan\.json is damaged.*rm -r {folder}"):
        make()


def test_what_was_cut_off_is_made_anew(make):
    found = make()
    rows = (found.folder / "rows.npy").read_bytes()
    (found.folder / "rows.npy").unlink()
    assert make().statistics == found.statistics
    assert (found.folder / "rows.npy").read_bytes() == rows


def test_a_full_disk_is_told(make, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan.atomic, "write", full)
    with pytest.raises(MachineError, match=r"packing plan .* cannot be written.*No space left"):
        make()
