"""The manifest of one cached split: what it holds, what it was made of, and its checksums."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archobj_jax.data import atomic
from archobj_jax.errors import MachineError, UserError

FORMAT = 2
FILE = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One ArrayRecord file of a cache, its index, and the lengths of examples if it holds such.

    Attributes:
      file: name of the ArrayRecord file; the others are `index_file` and `lengths_file`.
      records: groups of documents in it.
      documents: documents in them, or examples.
      empty: documents that were left out, as they have no token of targets.
      tokens: tokens of all features in them, without any end of sequence but their own.
      text_bytes: UTF-8 bytes of their text, 0 where the steps drop it (`*_pretokenized`).
      bytes: size of the file.
      sha256: its checksum.
      index_sha256: the index's.
      lengths_sha256: that of the lengths; None where documents have one feature.
    """

    file: str
    records: int
    documents: int
    empty: int
    tokens: int
    text_bytes: int
    bytes: int
    sha256: str
    index_sha256: str
    lengths_sha256: str | None = None

    @property
    def index_file(self) -> str:
        """Name of the .npy file, integer [records + 1, 2]: tokens and documents before each."""
        return self.file.removesuffix(".array_record") + ".index.npy"

    @property
    def lengths_file(self) -> str:
        """Name of the .npy file, int32 [documents, features]: tokens of each example."""
        return self.file.removesuffix(".array_record") + ".lengths.npy"

    @property
    def sums(self) -> dict[str, str]:
        """The SHA-256 of each of its files, by name."""
        sums = {self.file: self.sha256, self.index_file: self.index_sha256}
        if self.lengths_sha256 is not None:
            sums[self.lengths_file] = self.lengths_sha256
        return sums


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of one cached split.

    `features` are those that each document has, in the order in which they are stored. `files` is
    path, size and time of change of each file that the source read, if it reads files.
    """

    task: str
    split: str
    declaration: dict[str, Any]
    vocabulary: str
    vocabulary_fingerprint: str
    features: tuple[str, ...]
    shards: tuple[Shard, ...]
    files: list[list[Any]] | None = None
    format: int = FORMAT

    @property
    def documents(self) -> int:
        """Documents, or examples, in all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def unit(self) -> str:
        """What `documents` counts, as a message has it."""
        return "documents" if len(self.features) == 1 else "examples"

    @property
    def empty(self) -> int:
        """Documents without a token of targets, which were left out."""
        return sum(shard.empty for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens of all features in all shards, without any end of sequence but their own."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of text in all shards."""
        return sum(shard.text_bytes for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any token of the cache or its order."""
        text = self.vocabulary_fingerprint + "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Writes the manifest into `folder`, whole or not at all."""
        names = ("documents", "empty", "tokens", "text_bytes", "fingerprint")
        totals = {name: getattr(self, name) for name in names}
        write_json(folder / FILE, dataclasses.asdict(self) | {"totals": totals})


def read(folder: Path) -> Manifest:
    """Returns the manifest in `folder`.

    Raises:
      FileNotFoundError: the split is not cached, or not wholly.
      MachineError: the file is damaged.
      UserError: another version of this program wrote it.
    """
    path = folder / FILE
    text = path.read_text()
    try:
        content = json.loads(text)
        version = content["format"]
        if version == FORMAT:
            del content["totals"]
            shards = tuple(Shard(**shard) for shard in content.pop("shards"))
            features = tuple(content.pop("features"))
            return Manifest(**content, features=features, shards=shards)
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{path} is damaged ({error}); {mend(path)}") from error
    raise UserError(f"{path} has format {version}, expected {FORMAT}; {mend(path)}")


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Says whether every file of the cache is there; one that is not can be made again alone."""
    return all((folder / name).exists() for shard in manifest.shards for name in shard.sums)


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raises a MachineError that names the first shard whose file is cut short or too long."""
    for shard in manifest.shards:
        path = folder / shard.file
        size = path.stat().st_size
        if size != shard.bytes:
            raise MachineError(
                f"shard {path} has {size:,} bytes, expected {shard.bytes:,}; {mend(path)}"
            )


def check_sums(folder: Path, manifest: Manifest) -> None:
    """Raises a MachineError that names the first file whose SHA-256 is not the manifest's."""
    check_sizes(folder, manifest)
    for shard in manifest.shards:
        for name, expected in shard.sums.items():
            path = folder / name
            if sha256(path) != expected:
                raise MachineError(
                    f"{path} is damaged, its SHA-256 is not the manifest's; {mend(path)}"
                )


def mend(path: Path) -> str:
    """Returns the advice that ends every message on a damaged file of a cache."""
    return f"delete that file and run the same command again, which makes it anew: rm {path}"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: object) -> None:
    """Writes `content` to `path`, whole or not at all."""
    atomic.write(path, json.dumps(content, indent=1).encode())
