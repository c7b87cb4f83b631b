"""Vocabularies of the pretraining tasks, and the fingerprint that ties a cache to one of them.

T5's conventions everywhere: padding is id 0, end of sequence 1, unknown 2, no beginning of
sequence, and the sentinels `<extra_id_0>`, `<extra_id_1>`, … are the last ids, descending.
"""

import functools
import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import seqio

from archobj_jax.data import atomic, embedded, pieces
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.errors import MachineError, UserError

T5_MODEL = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
"""T5's 32,000 pieces (the file has no sentinels; SeqIO adds the 100 extra ids)."""

EXTRA_IDS = 100
DEFAULT_CACHE_DIR = "runs/cache"

_TRAINER: dict[str, Any] = {
    "vocab_size": 4096,
    "model_type": "unigram",
    "byte_fallback": True,  # any text a user types can be encoded and read back, at 1% more tokens
    "character_coverage": 0.9995,
    "max_sentence_length": 65536,
    "pad_id": 0,
    "eos_id": 1,
    "unk_id": 2,
    "bos_id": -1,
    "num_threads": 1,  # with more, sums of floats depend on their order
}


class EmbeddedVocabulary(seqio.SentencePieceVocabulary):
    """4,096 SentencePiece pieces of the embedded corpus and 100 sentinels, trained on first use.

    Making one reads nothing, so that a task can name it at import. The model is trained (seconds,
    deterministic) by whatever first needs it, into `<cache_dir>/vocabularies`.
    """

    def __init__(self, extra_ids: int = EXTRA_IDS):
        super().__init__(sentencepiece_model_file="", extra_ids=extra_ids)
        self._sentencepiece_model_file: str

    def prepare(self, cache_dir: str | os.PathLike[str]) -> None:
        """Trains the model into `cache_dir`, or finds it there; the first folder given stays."""
        if not self._sentencepiece_model_file:
            self._sentencepiece_model_file = str(_embedded_model(Path(cache_dir).absolute()))

    def declaration(self) -> dict[str, object]:
        """Returns what decides the pieces, without reading or training anything."""
        return {**embedded.declaration(), "trainer": dict(_TRAINER), "extra_ids": self.extra_ids}

    def _model_context(self):  # type: ignore[no-untyped-def]  # SeqIO's seam, private class
        self.prepare(DEFAULT_CACHE_DIR)
        return super()._model_context()

    def __str__(self) -> str:
        return f"EmbeddedVocabulary(pieces={_TRAINER['vocab_size']}, extra_ids={self.extra_ids})"


@functools.cache
def embedded_vocabulary() -> EmbeddedVocabulary:
    """Returns the vocabulary of the embedded corpus: 4,196 ids, the last 100 of them sentinels."""
    return EmbeddedVocabulary()


@functools.cache
def t5_vocabulary() -> seqio.SentencePieceVocabulary:
    """Returns T5's vocabulary: 32,100 ids. Its file is read when first needed."""
    return seqio.SentencePieceVocabulary(T5_MODEL, extra_ids=EXTRA_IDS)


def load(vocabulary: seqio.Vocabulary, cache_dir: str | os.PathLike[str]) -> TokenIds:
    """Makes `vocabulary` ready for use and returns its ids.

    Raises:
      UserError: its model file is missing, unreadable or not a SentencePiece model, or it has no
        end of sequence.
    """
    if isinstance(vocabulary, EmbeddedVocabulary):
        vocabulary.prepare(cache_dir)
    try:
        size, extra_ids, eos_id = vocabulary.vocab_size, vocabulary.extra_ids, vocabulary.eos_id
    except Exception as error:  # TensorFlow's file errors and SentencePiece's share no base
        file = getattr(vocabulary, "sentencepiece_model_file", None)
        if file is None:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(
            f"vocabulary file {file} cannot be read as a SentencePiece model ({reason}); expected "
            "one that this machine can reach; a task over a copy is registered with "
            f"vocabulary=seqio.SentencePieceVocabulary(COPY, extra_ids={EXTRA_IDS})"
        ) from error
    if eos_id is None:
        raise UserError(f"{vocabulary} has no end-of-sequence id, which every objective needs")
    return TokenIds(size, extra_ids, eos_id)


def declaration(vocabulary: seqio.Vocabulary) -> dict[str, object]:
    """Returns what names `vocabulary`, without loading it; part of a cache folder's name."""
    if isinstance(vocabulary, EmbeddedVocabulary):
        return vocabulary.declaration()
    kind = {"class": type(vocabulary).__name__, "extra_ids": vocabulary.extra_ids}
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return {**kind, "file": vocabulary.sentencepiece_model_file}
    return kind | {"vocab_size": vocabulary.vocab_size}


def title(vocabulary: seqio.Vocabulary) -> str:
    """Returns what a person reads of `vocabulary`, without its address in memory."""
    return re.sub(r"<(?:\w+\.)*(\w+) object at 0x[0-9a-f]+>", r"\1", str(vocabulary))


def fingerprint(vocabulary: seqio.Vocabulary) -> str:
    """Returns 16 hex digits that hash the model's content and its extra ids (loads the model)."""
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return pieces.fingerprint(vocabulary.sp_model, vocabulary.extra_ids)
    content = json.dumps([type(vocabulary).__name__, vocabulary.vocab_size])
    return hashlib.sha256(f"{content} {vocabulary.extra_ids}".encode()).hexdigest()[:16]


def record(vocabulary: seqio.Vocabulary) -> dict[str, Any]:
    """Returns what a checkpoint tells of its vocabulary, as JSON (loads the model).

    "title" and "fingerprint"; of SentencePiece also "file" and "extra_ids", by which
    `inference.vocabulary` reads it again without its task.
    """
    told = {"title": title(vocabulary), "fingerprint": fingerprint(vocabulary)}
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        told |= {"file": vocabulary.sentencepiece_model_file, "extra_ids": vocabulary.extra_ids}
    return told


def _embedded_model(cache_dir: Path) -> Path:
    """Returns the path of the trained model under `cache_dir`, training it if it is not there."""
    key = json.dumps([embedded.declaration(), _TRAINER], sort_keys=True)
    name = f"embedded-{hashlib.sha256(key.encode()).hexdigest()[:8]}.model"
    path = cache_dir / "vocabularies" / name
    if path.exists():
        return path
    model = _train()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, model)
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written ({error}); free space or name another CACHE_DIR, then run "
            "the same command again"
        ) from error
    return path


def _train() -> bytes:
    import sentencepiece

    paragraphs = (
        paragraph
        for document in embedded.documents("train")
        for paragraph in document.text.split("\n\n")
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=paragraphs, model_writer=model, minloglevel=2, **_TRAINER
    )
    return model.getvalue()
