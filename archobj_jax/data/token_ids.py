"""What an objective must know of a vocabulary, without the vocabulary."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenIds:
    """Sizes and special ids of a vocabulary: cheap to send to a process that has no TensorFlow.

    Attributes:
      vocab_size: number of ids, sentinels included.
      extra_ids: number of sentinels, the last ids.
      eos_id: the id that ends a sequence.
    """

    vocab_size: int
    extra_ids: int
    eos_id: int
