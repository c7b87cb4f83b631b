import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from archobj_jax.errors import MachineError, UserError
from archobj_jax.prompts import embedded_tasks
from archobj_jax.prompts.records import EmbeddedRecords, HubRecords, LocalRecords

ROWS = [{"text": "a", "label": 0, "more": {"x": [1]}}, {"text": "b", "label": 1, "more": {"x": []}}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def records_of(records, split):
    return [record for _, record in records.read(split)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", LINES),
        ("train.json.gz", gzip.compress(LINES)),
        ("train.jsonl.zst", zstandard.compress(LINES)),
    ],
    ids=["plain", "gz", "zst"],
)
def test_json_lines_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_text("not data")
    records = LocalRecords(str(tmp_path))
    assert records.splits == ("train",)
    assert records_of(records, "train") == ROWS


def test_parquet_is_read_in_the_order_of_its_files(tmp_path):
    for index, row in enumerate(ROWS):
        path = tmp_path / f"validation-0000{index}-of-00002.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    records = LocalRecords(str(tmp_path))
    assert records_of(records, "validation") == ROWS
    where, _ = list(records.read("validation"))[1]
    assert where.endswith("validation-00001-of-00002.parquet, row 0")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no examples lie in .*expected files named by split"):
        LocalRecords(str(tmp_path))
    (tmp_path / "train.jsonl").write_bytes(LINES)
    with pytest.raises(UserError, match=r"no split 'trian'.*Did you mean 'train'"):
        next(LocalRecords(str(tmp_path)).read("trian"))


def test_bad_lines_are_named(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(LINES + b"{oops\n")
    (tmp_path / "test.jsonl").write_bytes(b"\n[1]\n")
    records = LocalRecords(str(tmp_path))
    with pytest.raises(UserError, match=r"train\.jsonl, line 3: not JSON"):
        records_of(records, "train")
    with pytest.raises(UserError, match=r"test\.jsonl, line 2: found list; expected an object"):
        records_of(records, "test")


def test_damaged_files_are_the_machine_s(tmp_path):
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(LINES * 99)[:-20])
    with pytest.raises(MachineError, match="cannot be read to its end"):
        records_of(LocalRecords(str(tmp_path)), "train")
    (tmp_path / "test.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="is not a Parquet file"):
        records_of(LocalRecords(str(tmp_path)), "test")


def test_the_hub_needs_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"super_glue/cb .*pip install 'archobj_jax\[hf\]'"):
        next(HubRecords("super_glue", "cb").read("train"))


def test_the_hub_is_asked_for_data_set_subset_and_split(monkeypatch):
    class Datasets:
        @staticmethod
        def load_dataset(name, subset, split):
            if split == "nowhere":
                raise ValueError('Unknown split "nowhere".')
            return [{"asked": [name, subset, split]}]

    monkeypatch.setitem(__import__("sys").modules, "datasets", Datasets)
    records = HubRecords("super_glue", "cb")
    assert records_of(records, "train") == [{"asked": ["super_glue", "cb", "train"]}]
    with pytest.raises(UserError, match=r"super_glue/cb, split 'nowhere': Unknown split"):
        records_of(records, "nowhere")


def test_embedded_tasks_are_records_too():
    records = EmbeddedRecords("supported")
    assert records.splits == ("validation",)
    assert records_of(records, "validation") == list(
        embedded_tasks.examples("supported", "validation")
    )
