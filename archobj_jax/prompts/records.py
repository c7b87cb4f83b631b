"""Where a data set's examples come from: local files, the Hugging Face hub, the embedded corpus."""

import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import fsspec

from archobj_jax.data import text_files
from archobj_jax.data.zstd_stream import ZstdStream
from archobj_jax.errors import MachineError, UnreachableError, UserError, did_you_mean
from archobj_jax.prompts import embedded_tasks

Record = dict[str, Any]

HUB_SPLITS = ("train", "validation", "test")
"""What a data set of the hub is taken to have until it is loaded."""

_FILE = re.compile(
    r"(?P<split>\w+?)(?:-\d+-of-\d+)?\.(?P<kind>jsonl|json|parquet)(?:\.gz|\.zst)?", re.ASCII
)


class Records(Protocol):
    """The examples of a data set, by split."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""

    def read(self, split: str) -> Iterator[tuple[str, Record]]:
        """Yields where each example stands, for errors, and the example, always in one order.

        Raises:
          UserError: there is no such data or split, or a record is not what it must be.
          MachineError: the data cannot be read to its end.
        """

    def files(self, split: str) -> list[list[Any]] | None:
        """Returns path, size and time of change of each file of `split`, or None if not of files.

        By these the cache notices that they changed.
        """

    def declaration(self) -> dict[str, object]:
        """Returns what the examples depend on, without reading them."""


class LocalRecords:
    """Files of a folder, named by split: JSON lines or Parquet, the data set's own field names.

    `train.jsonl`, `validation.json.gz`, `test.jsonl.zst`, `train-00000-of-00002.parquet`.

    Args:
      folder: local, or of a file system that fsspec knows (gs://…).

    Raises:
      UserError: no such files lie there.
    """

    def __init__(self, folder: str):
        self._folder = folder
        self._listed = _list(folder)
        self._files = {split: [path for path, *_ in files] for split, files in self._listed.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are files of."""
        return tuple(self._files)

    def read(self, split: str) -> Iterator[tuple[str, Record]]:
        """Yields the records; see `Records`."""
        if split not in self._files:
            raise UserError(
                f"{self._folder} has no split '{split}'.{did_you_mean(split, self._files)} It has "
                f"{', '.join(self._files)}"
            )
        for path in self._files[split]:
            read = _read_parquet if ".parquet" in path else _read_json_lines
            try:
                yield from read(path)
            except (OSError, EOFError, zlib.error) as error:
                raise MachineError(
                    f"{path} cannot be read to its end ({error}); fetch the file anew, then run "
                    "the same command again"
                ) from error

    def files(self, split: str) -> list[list[Any]]:
        """Returns path, size and time of change of each file of `split`; see `Records`."""
        return [list(file) for file in self._listed[split]]

    def declaration(self) -> dict[str, object]:
        """Returns the files by split."""
        return {"files": self._files}


class HubRecords:
    """A data set of the Hugging Face hub, downloaded when it is first read (extra `hf`).

    Args:
      dataset: its name there.
      subset: its configuration, if it has several.
    """

    splits = HUB_SPLITS

    def __init__(self, dataset: str, subset: str | None = None):
        self._dataset, self._subset = dataset, subset

    def read(self, split: str) -> Iterator[tuple[str, Record]]:
        """Yields the records; see `Records`."""
        name = "/".join(filter(None, (self._dataset, self._subset)))
        for number, record in enumerate(self._load(name, split)):
            yield f"{name}, split '{split}', record {number}", record

    def _load(self, name: str, split: str) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise UnreachableError(
                f"data set {name} is read from the Hugging Face hub, which needs an extra: pip "
                "install 'archobj_jax[hf]'; or register it from local files (LocalRecords)"
            ) from error
        try:
            return datasets.load_dataset(self._dataset, self._subset, split=split)
        except (ValueError, FileNotFoundError) as error:  # of no such name, subset or split
            raise UserError(f"data set {name}, split '{split}': {error}") from error
        except OSError as error:
            raise MachineError(
                f"data set {name} cannot be fetched ({error}); what was downloaded is kept: run "
                "the same command again"
            ) from error

    def files(self, split: str) -> None:
        """Returns None."""

    def declaration(self) -> dict[str, object]:
        """Returns the names."""
        return {"hub": self._dataset, "subset": self._subset}


class EmbeddedRecords:
    """The examples of one of the embedded tasks.

    Args:
      task: its name (`embedded_tasks.TASKS`).
    """

    def __init__(self, task: str):
        self._task = embedded_tasks.TASKS[task]

    @property
    def splits(self) -> tuple[str, ...]:
        """The task's splits."""
        return self._task.splits

    def read(self, split: str) -> Iterator[tuple[str, Record]]:
        """Yields the records; see `Records`."""
        for number, record in enumerate(embedded_tasks.examples(self._task.name, split)):
            yield f"embedded task '{self._task.name}', split '{split}', example {number}", record

    def files(self, split: str) -> None:
        """Returns None."""

    def declaration(self) -> dict[str, object]:
        """Returns what the corpus depends on, and the task."""
        return {**embedded_tasks.declaration(), "task": self._task.name}


def _list(folder: str) -> dict[str, list[text_files.File]]:
    protocol = "://" in folder
    try:
        filesystem, path = fsspec.core.url_to_fs(folder)
        found = filesystem.ls(path, detail=True) if filesystem.isdir(path) else []
    except (ImportError, ValueError) as error:
        raise UserError(f"folder {folder} cannot be searched ({error})") from error
    files: dict[str, list[text_files.File]] = {}
    for info in sorted(found, key=lambda info: str(info["name"])):
        name = str(info["name"])
        match = _FILE.fullmatch(name.rpartition("/")[2])
        if match:
            path = filesystem.unstrip_protocol(name) if protocol else name
            file = (path, info["size"], text_files.changed(info))
            files.setdefault(match["split"], []).append(file)
    if not files:
        raise UserError(
            f"no examples lie in {folder}; expected files named by split, such as train.jsonl, "
            "validation.jsonl.zst or train-00000-of-00002.parquet"
        )
    return files


def _read_json_lines(path: str) -> Iterator[tuple[str, Record]]:
    with fsspec.open(path, "rb", compression="gzip" if path.endswith(".gz") else None) as file:
        lines = io.BufferedReader(ZstdStream(file)) if path.endswith(".zst") else file
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{where}: not JSON ({error})") from error
                if not isinstance(record, Mapping):
                    raise UserError(f"{where}: found {type(record).__name__}; expected an object")
                yield where, dict(record)


def _read_parquet(path: str) -> Iterator[tuple[str, Record]]:
    import pyarrow
    import pyarrow.parquet

    with fsspec.open(path, "rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{path} is not a Parquet file ({error})") from error
        row = 0
        for batch in table.iter_batches():
            for record in batch.to_pylist():
                yield f"{path}, row {row}", record
                row += 1
