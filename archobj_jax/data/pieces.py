"""SentencePiece vocabularies without TensorFlow, for what only turns text into ids and back.

SeqIO's own class does the same and imports TensorFlow for it, which takes seconds.
"""

import hashlib
from collections.abc import Iterable

import sentencepiece
from sentencepiece import sentencepiece_model_pb2


class Pieces:
    """A SentencePiece model with sentinels: encodes and decodes as SeqIO's vocabulary of it does.

    Attributes:
      eos_id: the id that ends a sequence.
      fingerprint: 16 hex digits; see `fingerprint`.
    """

    def __init__(self, model: bytes, extra_ids: int):
        """Takes the content of a model file, which has no sentinels.

        Raises:
          ValueError: it is no such model.
        """
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            content = _with_sentinels(model, extra_ids)
            self._processor.LoadFromSerializedProto(content)
        except Exception as error:  # protobuf's errors and SentencePiece's share no base
            raise ValueError(f"no SentencePiece model: {error}") from error
        self.eos_id: int = self._processor.eos_id()
        self.fingerprint = fingerprint(content, extra_ids)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without an end of sequence."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids` up to the first end of sequence; ids beyond all are unknown."""
        size, unknown = self._processor.GetPieceSize(), self._processor.unk_id()
        known = [unknown if id >= size else int(id) for id in ids]
        if self.eos_id in known:
            known = known[: known.index(self.eos_id) + 1]
        return self._processor.DecodeIds(known)


def _with_sentinels(model: bytes, extra_ids: int) -> bytes:
    """A model with `<extra_id_n>` as its last pieces, descending."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for number in reversed(range(extra_ids)):
        proto.pieces.add(
            piece=f"▁<extra_id_{number}>",
            score=0.0,
            type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
        )
    return proto.SerializeToString()


def fingerprint(content: bytes, extra_ids: int) -> str:
    """Returns 16 hex digits that hash a model, sentinels included, and how many those are."""
    content_hash = hashlib.sha256(content).hexdigest()
    return hashlib.sha256(f"{content_hash} {extra_ids}".encode()).hexdigest()[:16]
