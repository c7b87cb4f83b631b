"""Caches made on Apache Beam's DirectRunner, against those made without Beam."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import seqio
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from archobj_jax import cli
from archobj_jax.data import building, cache, manifest, registry, shards
from archobj_jax.errors import MachineError, UserError
from tests.data.corpora import byte_vocabulary, register, register_examples, texts, write_files

DIRECT = "--runner=DirectRunner"


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DirectRunner would first fetch Prism, a program that runs pipelines as it does."""
    from apache_beam.runners.portability.prism_runner import PrismRunner

    def refuse(*_):
        raise RuntimeError("tests download nothing")

    monkeypatch.setattr(PrismRunner, "run_pipeline", refuse)


@pytest.fixture
def several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has small shards hold several records."""
    monkeypatch.setattr(shards, "RECORD_TOKENS", 200)
    monkeypatch.setattr(shards, "EXAMPLE_RECORD_TOKENS", 50)


def make(name: str, folder: Path | str, pipeline_options: str | None = DIRECT, **more) -> None:
    cache.cache(name, cache_dir=str(folder), workers=0, pipeline_options=pipeline_options, **more)


def both(name: str, folder: Path) -> tuple[Path, Path]:
    """Makes the caches of a task without Beam and on it; returns their folders."""
    make(name, folder / "local", None)
    make(name, folder / "beam")
    return folder / "local", folder / "beam"


def records(path: Path) -> list[bytes]:
    reader = ArrayRecordReader(str(path))
    found = reader.read([*range(reader.num_records())])
    reader.close()
    return found


def files(root: Path) -> set[Path]:
    """The files of all caches; locks, and vocabularies trained by the way, are none of them."""
    kept = [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(root) for path in kept if path.parent.name != "vocabularies"}


def assert_same(local: Path, beam: Path) -> int:
    """Compares all caches record by record, and all files; returns how many records."""
    kept = files(local)
    assert kept == files(beam)
    compared = 0
    for path in sorted(kept):
        if path.suffix == ".array_record":
            expected, found = records(local / path), records(beam / path)
            assert len(found) == len(expected)
            for number, (one, other) in enumerate(zip(expected, found, strict=True)):
                assert one == other, f"{path}, record {number}"
            compared += len(expected)
        assert (local / path).read_bytes() == (beam / path).read_bytes(), path
    return compared


def test_a_corpus_of_several_files_has_the_same_records(tmp_path, several_records):
    register("news", tmp_path, documents=60)
    assert assert_same(*both("news_full_lm", tmp_path)) > 3 * 10


@pytest.mark.slow
def test_the_embedded_corpus_has_the_same_records(tmp_path):
    assert assert_same(*both("embedded_full_lm", tmp_path)) >= 8


def test_examples_of_prompts_have_the_same_records(tmp_path, several_records):
    from archobj_jax.prompts.records import LocalRecords
    from tasks.prompted import register_dataset, register_mixture
    from tests.prompts.prompts import prompt

    rows = [{"number": number, "double": 2 * number} for number in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    templates = {
        name: dataclasses.replace(prompt(jinja), name=name)
        for name, jinja in (
            ("twice", "Twice {{number}} is ||| {{double}}"),
            ("half", "Half of {{double}} is ||| {{number}}"),
        )
    }
    records = LocalRecords(str(tmp_path))
    prompted = register_dataset(templates, records, vocabulary=byte_vocabulary())
    register_mixture("sums", [prompted])
    local, beam = both("sums", tmp_path)
    assert len(list(beam.glob("*/train/manifest.json"))) == 2
    assert assert_same(local, beam) == 2 * 10


@pytest.mark.slow
def test_workers_that_are_processes_find_the_task_by_its_module(tmp_path, monkeypatch):
    train = write_files(tmp_path / "texts", texts(60), 3)
    (tmp_path / "my_beam_corpus.py").write_text(
        "import seqio\nfrom tasks.pretraining import register_text_corpus\n"
        f"register_text_corpus('mine', train={train!r}, held_out=0,\n"
        "                     vocabulary=seqio.ByteVocabulary(extra_ids=100))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    options = f"{DIRECT},--direct_num_workers=2,--direct_running_mode=multi_processing"
    make("mine_full_lm", tmp_path / "beam", options, module="my_beam_corpus")
    make("mine_full_lm", tmp_path / "local", None, module="my_beam_corpus")
    assert assert_same(tmp_path / "local", tmp_path / "beam")


def jobs(task: seqio.Task, root: Path) -> list[shards.Job]:
    found = building.jobs(task, "train", root, None)
    found[0].folder.mkdir(parents=True, exist_ok=True)
    return found


def test_a_pipeline_cut_off_goes_on_where_it_was(tmp_path, monkeypatch):
    task = register("news", tmp_path)["full_lm"]
    make("news_full_lm", tmp_path / "local", None)
    begun = jobs(task, tmp_path / "beam")
    shards.build(begun[1])
    (begun[0].folder / "shard-00000-of-00003.array_record.0123.tmp").touch()
    built = []
    build = shards.build
    monkeypatch.setattr(shards, "build", lambda job: built.append(job.index) or build(job))
    make("news_full_lm", tmp_path / "beam", splits=["train"])
    assert sorted(built) == [0, 2]
    make("news_full_lm", tmp_path / "beam")
    assert_same(tmp_path / "local", tmp_path / "beam")


def test_a_shard_made_again_changes_nothing(tmp_path):
    from archobj_jax.data.beam_cache import MakeShard

    job = jobs(register("news", tmp_path)["full_lm"], tmp_path / "cache")[2]
    worker = MakeShard()
    worker.process(job)
    first = {path.name: path.read_bytes() for path in job.folder.iterdir()}
    job.note.unlink()  # as a second worker on the same bundle would find it
    worker.process(job)
    assert {path.name: path.read_bytes() for path in job.folder.iterdir()} == first
    assert {Path(name).suffix for name in first} == {".array_record", ".npy", ".json"}


def test_a_bad_record_is_told_with_its_place_and_done_alone_when_mended(tmp_path, monkeypatch):
    register("news", tmp_path)
    path = tmp_path / "news" / "train" / "part-1.jsonl"
    good = path.read_text()
    path.write_text(good + '{"txt": "x"}\n')
    with pytest.raises(UserError, match=r"part-1\.jsonl, line 21: found keys txt"):
        make("news_full_lm", tmp_path / "cache")
    (folder,) = (tmp_path / "cache").glob("*/train")
    names = {path.name for path in folder.glob("*.json")}
    assert names == {"shard-00000-of-00003.json", "shard-00002-of-00003.json"}
    assert not list(folder.glob("*.failure"))
    path.write_text(good)
    built = []
    build = shards.build
    monkeypatch.setattr(shards, "build", lambda job: built.append(job.index) or build(job))
    make("news_full_lm", tmp_path / "cache", splits=["train"])
    assert built == [1]
    assert manifest.read(folder).documents == 60


def test_what_the_machine_got_wrong_ends_the_pipeline_with_its_message(tmp_path, monkeypatch):
    register("news", tmp_path)

    def full(job):
        raise MachineError(f"shard {job.path.name} cannot be written (No space left on device)")

    monkeypatch.setattr(shards, "build", full)
    with pytest.raises(MachineError, match=r"shard-0000\d-of-00003.*No space left on device"):
        make("news_full_lm", tmp_path / "cache")


def test_a_full_disk_is_told_where_nothing_can_be_left_on_it(tmp_path, monkeypatch):
    from archobj_jax.data import beam_cache

    register("news", tmp_path)

    def full(file, folder):
        raise OSError("No space left on device")

    monkeypatch.setattr(beam_cache, "publish", full)
    with pytest.raises(MachineError, match=r"shard-0000\d-of-00003.*No space left on device"):
        make("news_full_lm", tmp_path / "cache")


def test_an_empty_corpus_is_refused(tmp_path):
    register("empty", tmp_path, documents=0)
    with pytest.raises(UserError, match="'empty_full_lm', split 'train', is empty"):
        make("empty_full_lm", tmp_path / "cache")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"vocabulary_fingerprint": "0123"}, "the vocabulary of task .*, expected 0123; the work"),
        ({"count": 4}, "3 shards, expected 4; the workers need the same"),
    ],
)
def test_a_worker_unlike_the_machine_that_asks_is_refused(tmp_path, changed, expected):
    from archobj_jax.data import beam_cache

    job = jobs(register("news", tmp_path)["full_lm"], tmp_path / "cache")[0]
    with pytest.raises(UserError, match=expected):
        beam_cache.build([dataclasses.replace(job, **changed)], DIRECT)


def test_a_worker_with_another_task_of_that_name_is_refused(tmp_path):
    from archobj_jax.data import beam_cache

    job = jobs(register("news", tmp_path)["full_lm"], tmp_path / "cache")[0]
    folder = job.folder.parent.with_name("news-00000000") / "train"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"task 'news_full_lm' is another one .* news-00000000"):
        beam_cache.build([dataclasses.replace(job, folder=folder)], DIRECT)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--runner=DirectRuner", "Unexpected pipeline runner: DirectRuner.*mean 'DirectRunner'"),
        (f"{DIRECT},--direct_num_worker=2", "'--direct_num_worker'.*mean '--direct_num_workers'"),
        (f"{DIRECT},--direct_num_workers=x", "argument --direct_num_workers: invalid int value"),
        ("--runner=DataflowRunner", "Missing required option: project"),
    ],
)
def test_options_that_beam_does_not_take_are_one_message(options, expected, tmp_path, capfd):
    register("news", tmp_path)
    arguments = ["--gin.MIXTURE_OR_TASK_NAME=news_full_lm", f"--gin.CACHE_DIR={tmp_path / 'c'}"]
    assert cli.main(["cache", *arguments, f"--pipeline_options={options}"]) == 2
    (line,) = [each for each in capfd.readouterr().err.splitlines() if "archobj: error" in each]
    assert re.search(expected, line)
    assert not list((tmp_path / "c").rglob("manifest.json"))


DATAFLOW = (
    "--runner=DataflowRunner,--project=some-project,--region=europe-west4,"
    "--temp_location=gs://some-bucket/tmp,--staging_location=gs://some-bucket/staging"
)


def test_dataflow_needs_a_bucket(tmp_path):
    register("news", tmp_path)
    with pytest.raises(UserError, match=r"cannot write to .*expected CACHE_DIR in a bucket"):
        make("news_full_lm", tmp_path / "cache", DATAFLOW)


def test_dataflow_needs_its_client(tmp_path, bucket, monkeypatch):
    register("news", tmp_path)
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    with pytest.raises(UserError, match=r"not installed .*pip install 'apache-beam\[gcp\]'"):
        make("news_full_lm", "gs://bucket/cache", DATAFLOW)


class Bucket:
    """TensorFlow's file functions, which epath takes for gs://, over a folder in gs://'s place."""

    def __init__(self, folder: Path):
        self._folder = str(folder)

    def __getattr__(self, name: str):
        function = getattr(tf.io.gfile, name)

        def call(*arguments, **options):
            local = (
                str(each).replace("gs:/", self._folder, 1) if "gs:/" in str(each) else each
                for each in arguments
            )
            found = function(*local, **options)
            if name == "glob":
                return [path.replace(self._folder, "gs:/", 1) for path in found]
            return found

        return call


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "buckets"
    (folder / "bucket").mkdir(parents=True)
    monkeypatch.setattr(type(epath.backend.tf_backend), "gfile", Bucket(folder))
    return folder / "bucket"


def test_a_cache_in_a_bucket_is_the_same_once_mounted(tmp_path, bucket, several_records):
    register_examples("pairs", [{"inputs": [5, 6, 7], "targets": [8, 9]}] * 50)
    register("news", tmp_path)
    for name in ("pairs", "news_full_lm"):
        make(name, tmp_path / "local", None)
        make(name, "gs://bucket/cache")
        make(name, "gs://bucket/cache")  # finds it there
    assert assert_same(tmp_path / "local", bucket / "cache")
    opened = cache.ensure(registry.find("news_full_lm"), "train", bucket / "cache")
    assert opened.manifest.documents == 60


def test_a_bad_record_leaves_no_cache_in_a_bucket(tmp_path, bucket):
    register("news", tmp_path)
    path = tmp_path / "news" / "train" / "part-1.jsonl"
    path.write_text(path.read_text() + "no JSON\n")
    with pytest.raises(UserError, match=r"part-1\.jsonl, line 21: not JSON"):
        make("news_full_lm", "gs://bucket/cache")
    assert not list(bucket.rglob("manifest.json"))
    assert not list(bucket.rglob("*.failure"))
