"""The user's own text as a SeqIO data source: files found by globs, local or in a bucket.

`.txt` holds one document a file; `.jsonl`, `.json` one JSON object a line; `.parquet` one document
a row. All but Parquet may be compressed (`.gz`, `.zst`). C4 as AllenAI ships it,
`c4-train.*.json.gz`, is such a glob.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fsspec
import seqio
import tensorflow as tf

from archobj_jax.data.zstd_stream import ZstdStream
from archobj_jax.errors import MachineError, UserError

MAX_SHARDS = 1024
_COMPRESSED = (".gz", ".zst")
_EXTRAS = {"gs": "gcp", "gcs": "gcp"}


File = tuple[str, int, str]
"""Path, size in bytes, and when it was last changed."""


class TextFiles(seqio.DataSource):
    """Documents from files, elements {"text": string scalar}, in file order.

    A file is a shard of the cache; of more than 1,024 files, neighbours share one.

    Args:
      name: names the cache's folder.
      patterns: glob of each split, e.g. {"train": "gs://bucket/c4-train.*.json.gz"}.
      text_key: the key or column that holds the text.
      held_out: share of the documents of "train" that make up "validation" where `patterns` has
        no such split, chosen by a hash of their text; 0 for no validation split.

    Raises:
      UserError: `patterns` lacks "train", or `held_out` is no share. Missing files, files of
        another kind and bad records are UserErrors when first read.
    """

    def __init__(
        self,
        name: str,
        patterns: Mapping[str, str],
        *,
        text_key: str = "text",
        held_out: float = 0.005,
    ):
        if "train" not in patterns:
            raise UserError(
                f"corpus '{name}' has globs for {', '.join(patterns) or 'no split'}; expected one "
                "for 'train'"
            )
        if not 0 <= held_out < 1:
            raise UserError(f"corpus '{name}': held_out is {held_out}; expected 0 <= share < 1")
        self.name = name
        self.problem: Exception | None = None
        """The error that ended reading, which tf.data passes on only as text."""
        self._patterns, self._text_key = dict(patterns), text_key
        self._held_out = held_out if "validation" not in patterns else 0.0
        held = ("validation",) if self._held_out else ()
        super().__init__(splits=(*patterns, *held))
        self._listed: dict[str, list[File]] = {}

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """A file is not split."""
        return False

    def declaration(self) -> dict[str, object]:
        """Returns what the documents depend on; the files' content is not read."""
        return {
            "files": self._patterns,
            "text_key": self._text_key,
            "held_out": self._held_out,
        }

    def size(self, split: str) -> int:
        """Returns the bytes of the files of `split`, compressed as they are."""
        return sum(size for _, size, _ in self._files(split))

    def files(self, split: str) -> list[list[Any]]:
        """Returns path, size and time of change of each file of `split`, ready for JSON."""
        return [list(file) for file in self._files(split)]

    def list_shards(self, split: str) -> list[str]:
        """Returns a name for each shard of `split`."""
        count = min(len(self._files(split)), MAX_SHARDS)
        return [f"{split}-{index:05d}" for index in range(count)]

    def get_dataset(  # type: ignore[no-untyped-def]  # SeqIO's signature, not all of it ours
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        """Returns the documents of a shard, or of the split, as elements {"text": string}."""
        info = shard_info or seqio.ShardInfo(index=0, num_shards=1)
        files = [path for path, _, _ in self._files(split)]
        first, last = (len(files) * i // info.num_shards for i in (info.index, info.index + 1))

        def elements() -> Iterator[dict[str, str]]:
            try:
                for path in files[first:last]:
                    yield from ({"text": text} for text in self._texts(path, split))
            except (UserError, MachineError) as error:
                self.problem = error
                raise

        spec = {"text": tf.TensorSpec([], tf.string)}
        dataset = tf.data.Dataset.from_generator(elements, output_signature=spec)
        return dataset.shuffle(10_000, seed=seed) if shuffle else dataset

    def _files(self, split: str) -> list[File]:
        """Returns the files of `split`, in order of their paths."""
        if split not in self._listed:
            pattern = self._patterns.get(split, self._patterns["train"])
            self._listed[split] = _find(pattern, f"corpus '{self.name}', split '{split}'")
        return self._listed[split]

    def _texts(self, path: str, split: str) -> Iterator[str]:
        for text in read_texts(path, self._text_key):
            if not self._held_out or _is_held_out(text, self._held_out) == (split == "validation"):
                yield text


def read_texts(path: str, text_key: str = "text") -> Iterator[str]:
    """Yields the documents of one file.

    Raises:
      UserError: the file is of no known kind, or a record (named by its line) is not what it
        must be.
      MachineError: the file cannot be read to its end.
    """
    reader = _reader(path)
    try:
        yield from reader(path, text_key)
    except (OSError, EOFError, zlib.error) as error:
        raise MachineError(
            f"{path} cannot be read to its end ({error}); fetch the file anew, then run the same "
            "command again: shards finished before are kept"
        ) from error


def _reader(path: str) -> Callable[[str, str], Iterator[str]]:
    bare = path
    for ending in _COMPRESSED:
        bare = bare.removesuffix(ending)
    if bare.endswith(".txt"):
        return _read_text
    if bare.endswith((".jsonl", ".json")):
        return _read_json_lines
    if path.endswith(".parquet"):
        return _read_parquet
    raise UserError(
        f"{path} is of no kind that is read; expected .txt, .jsonl, .json (each also with .gz or "
        ".zst) or .parquet"
    )


def _read_text(path: str, _: str) -> Iterator[str]:
    with _open(path) as file:
        content = file.read()
    yield _decoded(content, path)


def _read_json_lines(path: str, text_key: str) -> Iterator[str]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _text_of_line(line, text_key, f"{path}, line {number}")


def _text_of_line(line: bytes, text_key: str, where: str) -> str:
    try:
        record = json.loads(_decoded(line, where))
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(record, dict) or not isinstance(record.get(text_key), str):
        found = f"keys {', '.join(record)}" if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{where}: found {found}; expected an object with text under '{text_key}'")
    return record[text_key]


def _read_parquet(path: str, text_key: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    with _open(path) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{path} is not a Parquet file ({error})") from error
        if text_key not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise UserError(f"{path} has the columns {names}; expected one named '{text_key}'")
        row = 0
        for batch in table.iter_batches(columns=[text_key]):
            for text in batch.column(0).to_pylist():
                if not isinstance(text, str):
                    kind = type(text).__name__
                    raise UserError(f"{path}, row {row}: '{text_key}' is {kind}; expected text")
                yield text
                row += 1


def _open(path: str) -> Any:
    file = fsspec.open(path, "rb").open()
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=file)
    if path.endswith(".zst"):
        return io.BufferedReader(ZstdStream(file))
    return file


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text ({error})") from error


def _find(pattern: str, owner: str) -> list[File]:
    protocol = pattern.partition("://")[0] if "://" in pattern else ""
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        found = filesystem.glob(path, detail=True)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = f"pip install 'archobj_jax[{extra}]'" if extra else str(error)
        raise UserError(
            f"{owner}: {pattern} needs a client that is not installed: {install}"
        ) from error
    except ValueError as error:
        raise UserError(f"{owner}: {pattern} cannot be searched ({error})") from error
    except OSError as error:
        raise MachineError(f"{owner}: {pattern} cannot be searched ({error}); try again") from error
    files = [
        (filesystem.unstrip_protocol(name) if protocol else name, info["size"], changed(info))
        for name, info in found.items()
        if info["type"] == "file"
    ]
    if not files:
        raise UserError(f"{owner}: no file matches {pattern}")
    return sorted(files)


def changed(info: Mapping[str, Any]) -> str:
    """What a file system says of a file's last change; each kind has its own name for it."""
    names = (name for name in ("mtime", "updated", "ETag", "LastModified") if name in info)
    return str(info.get(next(names, ""), ""))


def _is_held_out(text: str, share: float) -> bool:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
