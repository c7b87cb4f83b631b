"""The vocabulary of a checkpoint, read without TensorFlow where its file is at hand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from archobj_jax import native_messages
from archobj_jax.data.pieces import Pieces
from archobj_jax.training import lineage


class Vocabulary(Protocol):
    """What a trained model needs of a vocabulary; SeqIO's have it too."""

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence."""

    def encode(self, text: str) -> Sequence[int]:
        """Returns the ids of `text`, without an end of sequence."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of `ids`, up to the first end of sequence."""


def recorded_vocabulary(
    about: Mapping[str, Any], *, cache_dir: str | None, where: str
) -> Vocabulary:
    """The vocabulary that a checkpoint was trained with.

    It is read from the SentencePiece file that the run used, or of that name in `cache_dir`, if its
    fingerprint is the checkpoint's. Else the task that the run trained on says what it is.

    Args:
      about: what was saved about the checkpoint.
      cache_dir: where it lies if it is one that is made there; None is where the run had it.
      where: names the checkpoint in errors.

    Raises:
      UserError: the task is unknown here, or its vocabulary is another one here.
    """
    model = about["model"]
    found = _pieces(model["vocabulary"], cache_dir)
    if found is not None:
        return found
    # SeqIO brings TensorFlow, whose import takes seconds.
    with native_messages.held_back():
        import seqio

        from archobj_jax.data import registry, vocabularies

    task = registry.find(model["mixture_or_task_name"], model["mixture_or_task_module"])
    vocabulary = registry.vocabulary(seqio.get_subtasks(task)[0])
    vocabularies.load(vocabulary, cache_dir or model["cache_dir"])
    lineage.check_same_vocabulary(
        about,
        vocabularies.record(vocabulary),
        where=where,
        advice=f"Its own is that of the task '{task.name}', which is another one here.",
    )
    return vocabulary


def _pieces(recorded: Mapping[str, Any], cache_dir: str | None) -> Pieces | None:
    """The recorded SentencePiece vocabulary, if a local file of it is there and the same still."""
    if "file" not in recorded or "://" in recorded["file"]:
        return None
    file = Path(recorded["file"])
    made_here = [] if cache_dir is None else [Path(cache_dir, file.parent.name, file.name)]
    for path in [*made_here, file]:
        try:
            found = Pieces(path.read_bytes(), recorded["extra_ids"])
        except (OSError, ValueError):
            continue
        if found.fingerprint == recorded["fingerprint"]:
            return found
    return None
