"""A small SentencePiece model, made in a moment."""

import functools
import io

import sentencepiece


@functools.cache
def model(pieces: int = 300) -> bytes:
    """The content of a model file of so many pieces, with T5's special ids and no sentinels."""
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"the sum of {n} and {n * 7} is {n * 8}" for n in range(200)),
        model_writer=writer,
        vocab_size=pieces,
        model_type="unigram",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return writer.getvalue()
