"""The manifest of one cached split: what it holds, what it was made of, and its checksums."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archobj_jax.data import atomic
from archobj_jax.errors import MachineError, UserError

FORMAT = 1
FILE = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """One ArrayRecord file of a cache and its index.

    Attributes:
      file: name of the ArrayRecord file; the index is `index_file`.
      records: groups of documents in it.
      documents: documents in them.
      tokens: tokens in them, without any end of sequence.
      text_bytes: UTF-8 bytes of their text, 0 where the steps drop it (`*_pretokenized`).
      bytes: size of the file.
      sha256: its checksum.
      index_sha256: the index's.
    """

    file: str
    records: int
    documents: int
    tokens: int
    text_bytes: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def index_file(self) -> str:
        """Name of the .npy file, int64 [records + 1, 2]: tokens and documents before each."""
        return self.file.removesuffix(".array_record") + ".index.npy"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of one cached split.

    `files` is path, size and time of change of each file that the source read, if it reads files.
    """

    task: str
    split: str
    declaration: dict[str, Any]
    vocabulary: str
    vocabulary_fingerprint: str
    shards: tuple[Shard, ...]
    files: list[list[Any]] | None = None
    format: int = FORMAT

    @property
    def documents(self) -> int:
        """Documents in all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens in all shards, without any end of sequence."""
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
        totals = {k: getattr(self, k) for k in ("documents", "tokens", "text_bytes", "fingerprint")}
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
            return Manifest(**content, shards=shards)
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{path} is damaged ({error}); {mend(path)}") from error
    raise UserError(f"{path} has format {version}, expected {FORMAT}; {mend(path)}")


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Says whether every file of the cache is there; one that is not can be made again alone."""
    names = (name for shard in manifest.shards for name in (shard.file, shard.index_file))
    return all((folder / name).exists() for name in names)


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
        sums = {shard.file: shard.sha256, shard.index_file: shard.index_sha256}
        for name, expected in sums.items():
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
