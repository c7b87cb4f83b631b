import gzip
import itertools
import json

import pyarrow
import pyarrow.parquet
import pytest
import seqio
import zstandard

from archobj_jax.data.text_files import TextFiles, read_texts
from archobj_jax.errors import MachineError, UserError
from tests.data.corpora import texts, write_files

DOCUMENTS = ["first document", "second: naïve", "third\nof two lines"]


def json_lines(documents=DOCUMENTS) -> bytes:
    return "\n".join(json.dumps({"text": text, "url": "u"}) for text in documents).encode() + b"\n"


def read(path):
    return list(read_texts(str(path)))


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("a.jsonl", bytes),
        ("a.json", bytes),
        ("a.json.gz", gzip.compress),
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.zst", zstandard.compress),
    ],
)
def test_json_lines(tmp_path, name, compress):
    (tmp_path / name).write_bytes(compress(json_lines()))
    assert read(tmp_path / name) == DOCUMENTS


def test_text_is_one_document_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ndocument")
    assert read(tmp_path / "a.txt") == ["one\n\ndocument"]


def test_parquet(tmp_path):
    table = pyarrow.table({"text": DOCUMENTS, "id": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == DOCUMENTS
    with pytest.raises(UserError, match="columns text, id; expected one named 'content'"):
        list(read_texts(str(tmp_path / "a.parquet"), "content"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "x"', r"a\.jsonl, line 4: not JSON"),
        (b'{"content": "x"}', r"line 4: found keys content; expected .* 'text'"),
        (b'{"text": 3}', "line 4: found keys text; expected an object with text under 'text'"),
        (b'["x"]', "line 4: found list; expected an object"),
        (b'{"text": "\xff"}', "line 4: not UTF-8"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(json_lines() + line + b"\n")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.jsonl")


def test_a_file_cut_short_is_a_machine_error(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json_lines(texts(50)))[:-40])
    with pytest.raises(MachineError, match=r"a\.json\.gz cannot be read to its end"):
        read(tmp_path / "a.json.gz")


def test_zstd_frames_follow_one_another(tmp_path):
    frames = [zstandard.compress(json_lines([text])) for text in DOCUMENTS]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert read(tmp_path / "a.jsonl.zst") == DOCUMENTS


@pytest.mark.parametrize("lost", [1, 40, 2000])
def test_a_zstd_file_cut_short_is_a_machine_error(tmp_path, lost):
    documents = [text * 3 for text in texts(300)]
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(json_lines(documents))[:-lost])
    with pytest.raises(MachineError, match=r"a\.jsonl\.zst cannot be read to its end"):
        read(tmp_path / "a.jsonl.zst")


def test_a_damaged_gzip_file_is_a_machine_error(tmp_path):
    content = bytearray(gzip.compress(json_lines(texts(300))))
    content[200:300] = bytes(100)
    (tmp_path / "a.json.gz").write_bytes(content)
    with pytest.raises((MachineError, UserError), match=r"a\.json\.gz"):
        read(tmp_path / "a.json.gz")


def test_a_damaged_zstd_file_is_a_machine_error(tmp_path):
    (tmp_path / "a.jsonl.zst").write_bytes(b"not zstd at all, not at all")
    with pytest.raises(MachineError, match=r"a\.jsonl\.zst cannot be read to its end"):
        read(tmp_path / "a.jsonl.zst")


def test_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UserError, match=r"a\.csv is of no kind that is read; expected \.txt"):
        read(tmp_path / "a.csv")


def elements(source, split, **kwargs):
    dataset = source.get_dataset(split, shuffle=False, **kwargs)
    return [element["text"].decode() for element in dataset.as_numpy_iterator()]


def test_a_file_is_a_shard(tmp_path):
    documents = texts(30)
    source = TextFiles("c", {"train": write_files(tmp_path, documents, 4)}, held_out=0)
    assert source.splits == ("train",)
    assert len(source.list_shards("train")) == 4
    shards = [
        elements(source, "train", shard_info=seqio.ShardInfo(index=i, num_shards=4))
        for i in range(4)
    ]
    assert shards == [documents[i::4] for i in range(4)]
    assert elements(source, "train") == list(itertools.chain(*shards))


def test_held_out_documents_are_those_not_trained_on(tmp_path):
    documents = texts(400)
    source = TextFiles("c", {"train": write_files(tmp_path, documents, 2)}, held_out=0.1)
    train, held = elements(source, "train"), elements(source, "validation")
    assert sorted(train + held) == sorted(documents)
    assert 20 <= len(held) <= 60


def test_a_validation_glob_takes_the_place_of_holding_out(tmp_path):
    train = write_files(tmp_path / "t", texts(5, 0), 1)
    validation = write_files(tmp_path / "v", texts(3, 1), 1)
    source = TextFiles("c", {"train": train, "validation": validation})
    assert elements(source, "train") == texts(5, 0)
    assert elements(source, "validation") == texts(3, 1)


def test_no_file_is_an_error_when_first_read(tmp_path):
    source = TextFiles("news", {"train": str(tmp_path / "*.jsonl")})
    with pytest.raises(UserError, match=r"'news', split 'train': no file matches .*\*\.jsonl"):
        source.list_shards("train")


def test_an_unknown_scheme_is_an_error(tmp_path):
    source = TextFiles("news", {"train": "gx://bucket/*.jsonl"})
    with pytest.raises(UserError, match=r"gx://bucket/\*\.jsonl cannot be searched"):
        source.list_shards("train")


def test_a_missing_client_is_named_by_its_extra(monkeypatch):
    import fsspec

    def missing(_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    source = TextFiles("news", {"train": "gs://bucket/*.jsonl"})
    with pytest.raises(UserError, match=r"pip install 'archobj_jax\[gcp\]'"):
        source.list_shards("train")


def test_train_is_required():
    with pytest.raises(UserError, match="expected one for 'train'"):
        TextFiles("news", {"validation": "x"})
    with pytest.raises(UserError, match="held_out is 1"):
        TextFiles("news", {"train": "x"}, held_out=1)
