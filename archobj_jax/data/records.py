"""One record of the token cache: a group of whole tokenised documents, as bytes.

Layout, little-endian: `magic u32 | bytes a token u32 | documents u32 | tokens u32`, then a u32
length for each document, then the tokens (u16 where the vocabulary fits, else u32). A document of
several features lies here as so many documents, one after the other.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_HEADER = struct.Struct("<4I")
_MAGIC = 0x31524F41  # "AOR1"
_TOKEN_TYPES: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


class Record(NamedTuple):
    """Documents laid end to end.

    Attributes:
      lengths: int64 [documents], tokens of each; they sum to the length of `tokens`.
      tokens: int32 [tokens].
    """

    lengths: np.ndarray
    tokens: np.ndarray


def token_dtype(vocab_size: int) -> np.dtype:
    """Returns the narrowest stored type that holds the ids below `vocab_size`."""
    return _TOKEN_TYPES[2 if vocab_size <= 1 << 16 else 4]


def encode(documents: Sequence[np.ndarray], dtype: np.dtype) -> bytes:
    """Returns the bytes of integer [length] `documents`, stored as `dtype` (`token_dtype`).

    Raises:
      ValueError: an id is negative or does not fit `dtype`.
    """
    lengths = np.array([len(document) for document in documents], "<u4")
    tokens = np.concatenate(documents) if documents else np.empty(0, dtype)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() <= np.iinfo(dtype).max:
        raise ValueError(f"ids {tokens.min()} to {tokens.max()} do not fit {dtype}")
    header = _HEADER.pack(_MAGIC, dtype.itemsize, len(lengths), len(tokens))
    return header + lengths.tobytes() + tokens.astype(dtype).tobytes()


def decode(data: bytes) -> Record:
    """Returns the record that `encode` made.

    Raises:
      ValueError: the bytes are not such a record, or sizes in it disagree.
    """
    if len(data) < _HEADER.size:
        raise ValueError(f"{len(data)} bytes are too few for a record")
    magic, itemsize, documents, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or itemsize not in _TOKEN_TYPES:
        raise ValueError("not a record of tokenised documents")
    expected = _HEADER.size + 4 * documents + itemsize * count
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes, expected {expected}")
    lengths = np.frombuffer(data, "<u4", documents, _HEADER.size).astype(np.int64)
    if lengths.sum() != count:
        raise ValueError(f"documents of {lengths.sum()} tokens in all, expected {count}")
    tokens = np.frombuffer(data, _TOKEN_TYPES[itemsize], count, _HEADER.size + 4 * documents)
    return Record(lengths, tokens.astype(np.int32))
