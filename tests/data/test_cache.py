import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import seqio

from archobj_jax.data import cache, manifest, registry, rows, shards
from archobj_jax.errors import MachineError, UserError
from tasks.pretraining import register_text_corpus
from tests.data.corpora import byte_vocabulary, register, texts, write_files


def documents_of(opened: cache.Cache) -> list[str]:
    """Returns the texts in a cache of byte tokens, in order."""
    tokens = rows.TokenStream(opened, eos_id=1)
    stream = tokens.read(0, len(tokens))
    ends = np.flatnonzero(stream == 1)
    return [byte_vocabulary().decode(part[part != 1]) for part in np.split(stream, ends + 1)[:-1]]


def test_every_document_is_there_once_in_another_order(tmp_path):
    task = register("news", tmp_path, documents=60)["full_lm"]
    opened = cache.ensure(task, "train", tmp_path / "cache")
    found = documents_of(opened)
    assert sorted(found) == sorted(texts(60))
    assert found != [text for part in range(3) for text in texts(60)[part::3]]


def test_the_manifest_counts(tmp_path):
    task = register("news", tmp_path, documents=60)["full_lm"]
    opened = cache.ensure(task, "train", tmp_path / "cache")
    size = sum(map(len, texts(60)))
    made = opened.manifest
    assert (made.documents, made.tokens, made.text_bytes) == (60, size, size)
    content = json.loads((opened.folder / "manifest.json").read_text())
    assert content["totals"]["tokens"] == size
    assert len(content["shards"]) == 3
    assert opened.folder.parent.name.startswith("news-")


def test_the_objectives_share_a_cache_and_a_second_run_uses_it(tmp_path, monkeypatch):
    tasks = register("news", tmp_path)
    first = cache.ensure(tasks["full_lm"], "train", tmp_path / "cache")
    monkeypatch.setattr(shards, "build", lambda *_: pytest.fail("built again"))
    for name in ("full_lm", "prefix_lm", "span_corruption"):
        assert cache.ensure(tasks[name], "train", tmp_path / "cache") == first


def test_a_run_cut_off_goes_on_where_it_was(tmp_path, monkeypatch):
    task = register("news", tmp_path)["full_lm"]
    whole = cache.ensure(task, "train", tmp_path / "whole")
    build = shards.build
    built = []

    def build_two(job, progress=None):
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(job.index)
        return build(job, progress)

    monkeypatch.setattr(shards, "build", build_two)
    with pytest.raises(KeyboardInterrupt):
        cache.ensure(task, "train", tmp_path / "cache")
    monkeypatch.setattr(shards, "build", lambda job, p: built.append(job.index) or build(job, p))
    opened = cache.ensure(task, "train", tmp_path / "cache")
    assert built == [0, 1, 2]
    assert opened.manifest == whole.manifest


def test_another_vocabulary_is_refused(tmp_path):
    task = register("news", tmp_path)["full_lm"]
    opened = cache.ensure(task, "train", tmp_path / "cache")
    path = opened.folder / "manifest.json"
    content = json.loads(path.read_text())
    content["vocabulary_fingerprint"] = "0123456789abcdef"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"made with another vocabulary.*0123456789abcdef.*delete"):
        cache.ensure(task, "train", tmp_path / "cache")


def test_a_truncated_shard_is_named_and_mended_by_deleting_it(tmp_path):
    task = register("news", tmp_path)["full_lm"]
    opened = cache.ensure(task, "train", tmp_path / "cache")
    shard = opened.folder / opened.manifest.shards[1].file
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(MachineError, match=f"shard {shard} has .* bytes, expected .*rm {shard}"):
        cache.ensure(task, "train", tmp_path / "cache")
    shard.unlink()
    assert cache.ensure(task, "train", tmp_path / "cache") == opened


def damage(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


def test_archobj_cache_finds_a_damaged_byte(tmp_path):
    register("news", tmp_path)
    run = functools.partial(cache.cache, "news_full_lm", cache_dir=str(tmp_path / "cache"))
    run()
    (index,) = (tmp_path / "cache").glob("*/train/shard-00001*.index.npy")
    damage(index)
    with pytest.raises(MachineError, match=f"{index} is damaged"):
        run()


def test_a_damaged_manifest_is_named(tmp_path):
    task = register("news", tmp_path)["full_lm"]
    path = cache.ensure(task, "train", tmp_path / "cache").folder / manifest.FILE
    path.write_text(path.read_text()[:50])
    with pytest.raises(MachineError, match=r"manifest\.json is damaged.*rm "):
        cache.ensure(task, "train", tmp_path / "cache")


def test_an_empty_corpus_is_refused(tmp_path):
    task = register("empty", tmp_path, documents=0)["full_lm"]
    with pytest.raises(UserError, match="'empty_full_lm', split 'train', is empty"):
        cache.ensure(task, "train", tmp_path / "cache")


def test_a_bad_record_ends_caching_with_its_place(tmp_path):
    task = register("news", tmp_path)["full_lm"]
    path = tmp_path / "news" / "train" / "part-1.jsonl"
    path.write_text(path.read_text() + '{"txt": "x"}\n')
    with pytest.raises(UserError, match=r"part-1\.jsonl, line 21: found keys txt"):
        cache.ensure(task, "train", tmp_path / "cache")


class FullDisk:
    """An ArrayRecordWriter that finds the disk full at its second record."""

    def __init__(self, path, options):
        self.written = 0

    def write(self, record):
        self.written += 1
        if self.written > 1:
            raise RuntimeError("No space left on device")

    def close(self):
        pass


def test_a_full_disk_keeps_finished_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RECORD_TOKENS", 100)
    task = register("news", tmp_path)["full_lm"]
    build = shards.build

    def build_on_a_full_disk(job, progress):
        if job.index == 1:
            monkeypatch.setattr(shards, "ArrayRecordWriter", FullDisk)
        return build(job, progress)

    monkeypatch.setattr(shards, "build", build_on_a_full_disk)
    with pytest.raises(MachineError, match=r"No space left on device.*finished before are kept"):
        cache.ensure(task, "train", tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("*/train")
    assert {path.name for path in folder.glob("shard*")} == {
        f"shard-00000-of-00003.{end}" for end in ("array_record", "index.npy", "json")
    }


def test_processes_make_the_same_cache(tmp_path, monkeypatch):
    """The task is registered by a module, as processes must find it."""
    train = write_files(tmp_path / "texts", texts(60), 3)
    (tmp_path / "my_corpus.py").write_text(
        "import seqio\nfrom tasks.pretraining import register_text_corpus\n"
        f"register_text_corpus('mine', train={train!r}, held_out=0,\n"
        "                     vocabulary=seqio.ByteVocabulary(extra_ids=100))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = []
    for workers in (0, 2):
        folder = tmp_path / f"cache{workers}"
        cache.cache("mine_full_lm", module="my_corpus", cache_dir=str(folder), workers=workers)
        task = seqio.get_mixture_or_task("mine_full_lm")
        made.append(cache.ensure(task, "train", folder).manifest)
    assert made[0] == made[1]


def test_the_summary_is_printed_for_every_task_of_a_mixture(tmp_path, capsys):
    register("news", tmp_path)
    register("tales", tmp_path, seed=7)
    seqio.MixtureRegistry.add("both", ["news_full_lm", "tales_full_lm"], default_rate=1)
    cache.cache("both", cache_dir=str(tmp_path / "cache"), splits=["train"])
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out] == ["news_full_lm train", "tales_full_lm train"]
    assert "60 documents" in out[0]


def test_an_unknown_split_is_answered_with_the_nearest(tmp_path):
    register("news", tmp_path)
    with pytest.raises(UserError, match=r"no split 'trian'\. Did you mean 'train'"):
        cache.cache("news_full_lm", cache_dir=str(tmp_path), splits=["trian"])


def test_a_bucket_is_no_cache_dir(tmp_path):
    task = register("news", tmp_path)["full_lm"]
    with pytest.raises(UserError, match="CACHE_DIR is 'gs://b/c'; expected a folder"):
        cache.ensure(task, "train", "gs://b/c")


def test_beam_is_an_extra(tmp_path, monkeypatch):
    register("news", tmp_path)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"Beam, which is an extra: .*'archobj_jax\[beam\]'"):
        cache.cache("news_full_lm", cache_dir=str(tmp_path), pipeline_options="")


def test_tfds_data_that_is_not_there_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    c4 = seqio.get_mixture_or_task("c4_v220_full_lm")
    bytes_only = {"targets": seqio.Feature(byte_vocabulary(), add_eos=False)}
    with pytest.raises(UserError, match=r"has no 'c4/en:2\.2\.0', split 'train'.*TFDS_DATA_DIR"):
        cache.ensure(c4.replace(output_features=bytes_only), "train", tmp_path / "cache")


def test_files_that_changed_since_are_an_error_that_names_them(tmp_path):
    register("news", tmp_path)
    opened = cache.ensure(registry.find("news_full_lm"), "train", tmp_path / "cache")
    file = tmp_path / "news" / "train" / "part-1.jsonl"
    text = file.read_text()
    file.write_text(text + text.splitlines()[0] + "\n")
    (tmp_path / "news" / "train" / "part-9.jsonl").write_text(text)
    again = register_again("news", tmp_path)
    with pytest.raises(UserError, match=r"part-1.jsonl, .*part-9.jsonl changed, came or went"):
        cache.ensure(again, "train", tmp_path / "cache")
    # Files that are out of reach do not matter: the cache holds all their text.
    for path in (tmp_path / "news" / "train").iterdir():
        path.unlink()
    assert cache.ensure(register_again("news", tmp_path), "train", tmp_path / "cache") == opened


def register_again(name: str, folder: Path) -> seqio.Task:
    """Registers the task anew, as another process would, over the files as they are now."""
    for task in [task for task in seqio.TaskRegistry.names() if task.startswith(f"{name}_")]:
        seqio.TaskRegistry.remove(task)
    train, held = (str(folder / name / part / "part-*.jsonl") for part in ("train", "held"))
    register_text_corpus(name, train=train, validation=held, vocabulary=byte_vocabulary())
    return seqio.TaskRegistry.get(f"{name}_full_lm")
