"""Layouts: how the examples of one row lie in a model's arrays.

Array names and values are those of SeqIO's feature converters, packed. A row holds one example or
several; each is a segment, numbered from 1, that attention keeps apart. 0 is padding.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from archobj_jax import errors
from archobj_jax.objectives.objective import Example, Lengths, check_lengths

Row = dict[str, np.ndarray]
Spec = dict[str, tuple[tuple[int, ...], np.dtype]]

_NO_TOKENS = np.zeros(0, np.int32)


class Layout(Protocol):
    """Lays the examples of a row out for one architecture."""

    def row(self, examples: Sequence[Example], lengths: Lengths) -> Row:
        """Returns the arrays of one row, shaped as `spec` says, padded with 0.

        Raises:
          ValueError: the examples do not fit into the row.
        """

    def spec(self, lengths: Lengths) -> Spec:
        """Returns shape and dtype of each array of a row, without the batch dimension.

        Raises:
          UserError: lengths without 'targets', or for a feature that no layout has.
        """

    def check(self, features: Collection[str], lengths: Lengths) -> None:
        """Raises UserError if examples with these features can have no row of these lengths.

        To be called once, with `Objective.features`, before any data flows.
        """

    def room(self, lengths: Lengths) -> dict[str, int]:
        """Returns the tokens that a row has room for on each of its sides, by the side's name.

        Raises:
          UserError: as `spec`.
        """

    def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Returns the room that examples take of a row, int64 [examples, sides].

        Examples fit into one row if their sizes sum to at most `room`, on every side.

        Args:
          inputs: integer [examples], tokens of inputs.
          targets: integer [examples], tokens of targets.
        """


@dataclass(frozen=True)
class DecoderLayout:
    """Inputs and targets of a segment one after the other: causal and non-causal decoders.

    T is the sum of the lengths. Two segments, inputs `5 6` targets `7 1`, inputs `8` targets `9`:

        decoder_target_tokens      5 6 7 1 8 9 0
        decoder_input_tokens       0 5 6 7 0 8 0   shifted right within each segment
        decoder_loss_weights       0 0 1 1 0 1 0   on targets; float32
        decoder_segment_ids        1 1 1 1 2 2 0
        decoder_positions          0 1 2 3 0 1 0
        decoder_causal_attention   1 1 1 0 1 1 0   the prefix, len(inputs) + 1 positions

    `decoder_causal_attention` keeps SeqIO's name: 1 where attention is bidirectional, up to the
    position that reads the last input. A segment without inputs has no prefix.
    """

    def spec(self, lengths: Lengths) -> Spec:
        """Six arrays of [T], T = sum of the lengths."""
        _check(lengths)
        shape = (sum(lengths.values()),)
        spec = _decoder_spec(shape)
        spec["decoder_causal_attention"] = (shape, np.dtype(np.int32))
        return spec

    def check(self, features: Collection[str], lengths: Lengths) -> None:
        """Any features fit: inputs and targets share the row."""
        del features
        _check(lengths)

    def room(self, lengths: Lengths) -> dict[str, int]:
        """One side, the sum of the lengths."""
        _check(lengths)
        return {"inputs and targets": sum(lengths.values())}

    def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Inputs and targets together, int64 [examples, 1]."""
        return (np.asarray(inputs, np.int64) + targets)[:, None]

    def row(self, examples: Sequence[Example], lengths: Lengths) -> Row:
        """Returns the row; see the class."""
        row = _zeros(self, lengths)
        sizes = [_inputs(example).size + example["targets"].size for example in examples]
        _check_fit("inputs and targets", sizes, row["decoder_target_tokens"].size)
        start = 0
        for segment, (example, size) in enumerate(zip(examples, sizes, strict=True), start=1):
            inputs = _inputs(example)
            if inputs.size:
                row["decoder_target_tokens"][start : start + inputs.size] = inputs
                prefix = min(inputs.size + 1, size)
                row["decoder_causal_attention"][start : start + prefix] = 1
            _place_decoder(row, example["targets"], segment, start, offset=inputs.size)
            start += size
        return row


@dataclass(frozen=True)
class EncoderDecoderLayout:
    """Inputs on the encoder's side, targets on the decoder's.

    Two segments, inputs `5 6` targets `7 1`, inputs `8` targets `9`:

        encoder_input_tokens   5 6 8 0      decoder_target_tokens  7 1 9 0
        encoder_segment_ids    1 1 2 0      decoder_input_tokens   0 7 0 0
        encoder_positions      0 1 0 0      decoder_loss_weights   1 1 1 0   float32
                                            decoder_segment_ids    1 1 2 0
                                            decoder_positions      0 1 0 0

    An encoder must read something: an example without inputs reads a lone EOS. Lengths without
    'inputs' (full_lm) leave room for just that.

    Attributes:
      eos_id: the EOS that is read in place of inputs; T5's vocabularies have it at 1.
    """

    eos_id: int = 1

    def spec(self, lengths: Lengths) -> Spec:
        """Three encoder arrays of [inputs length] and five decoder arrays of [targets length]."""
        _check(lengths)
        encoder = ((lengths.get("inputs", 1),), np.dtype(np.int32))
        names = ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions")
        return dict.fromkeys(names, encoder) | _decoder_spec((lengths["targets"],))

    def check(self, features: Collection[str], lengths: Lengths) -> None:
        """Raises UserError if there are inputs, but no length for them."""
        _check(lengths)
        if "inputs" in features and "inputs" not in lengths:
            raise errors.UserError(
                "TASK_FEATURE_LENGTHS: an encoder-decoder needs a length for 'inputs', which this "
                f"objective makes; got {dict(lengths)}."
            )

    def room(self, lengths: Lengths) -> dict[str, int]:
        """Two sides, inputs and targets."""
        _check(lengths)
        return {"inputs": lengths.get("inputs", 1), "targets": lengths["targets"]}

    def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Inputs, a lone EOS in place of none, and targets: int64 [examples, 2]."""
        return np.stack([np.maximum(inputs, 1), targets], axis=1).astype(np.int64)

    def row(self, examples: Sequence[Example], lengths: Lengths) -> Row:
        """Returns the row; see the class."""
        row = _zeros(self, lengths)
        lone_eos = np.array([self.eos_id], np.int32)
        read = [inputs if (inputs := _inputs(example)).size else lone_eos for example in examples]
        targets = [example["targets"] for example in examples]
        _check_fit("inputs", [x.size for x in read], row["encoder_input_tokens"].size)
        _check_fit("targets", [x.size for x in targets], row["decoder_target_tokens"].size)
        encoder_start = decoder_start = 0
        for segment, (source, target) in enumerate(zip(read, targets, strict=True), start=1):
            at = slice(encoder_start, encoder_start + source.size)
            row["encoder_input_tokens"][at] = source
            row["encoder_segment_ids"][at] = segment
            row["encoder_positions"][at] = _positions(source.size)
            _place_decoder(row, target, segment, decoder_start)
            encoder_start += source.size
            decoder_start += target.size
        return row


def _place_decoder(
    row: Row, targets: np.ndarray, segment: int, start: int, *, offset: int = 0
) -> None:
    """Writes a segment's targets `offset` after its start, and what follows from the segment."""
    end = start + offset + targets.size
    tokens = row["decoder_target_tokens"]
    tokens[start + offset : end] = targets
    row["decoder_loss_weights"][start + offset : end] = 1
    row["decoder_input_tokens"][start + 1 : end] = tokens[start : end - 1]
    row["decoder_segment_ids"][start:end] = segment
    row["decoder_positions"][start:end] = _positions(end - start)


def _decoder_spec(shape: tuple[int, ...]) -> Spec:
    int32 = np.dtype(np.int32)
    return {
        "decoder_target_tokens": (shape, int32),
        "decoder_input_tokens": (shape, int32),
        "decoder_loss_weights": (shape, np.dtype(np.float32)),
        "decoder_segment_ids": (shape, int32),
        "decoder_positions": (shape, int32),
    }


def _inputs(example: Example) -> np.ndarray:
    return example.get("inputs", _NO_TOKENS)


def _zeros(layout: DecoderLayout | EncoderDecoderLayout, lengths: Lengths) -> Row:
    spec = _spec(layout, tuple(lengths.items()))
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}


@lru_cache(maxsize=64)
def _spec(
    layout: DecoderLayout | EncoderDecoderLayout, lengths: tuple[tuple[str, int], ...]
) -> Spec:
    """Returns what `layout.spec` does, once for all rows."""
    return layout.spec(dict(lengths))


@lru_cache(maxsize=1024)
def _positions(size: int) -> np.ndarray:
    """Returns int32 [size], to be read only."""
    return np.arange(size, dtype=np.int32)


def _check(lengths: Lengths) -> None:
    check_lengths("the layout", lengths, required=["targets"], optional=["inputs"])


def _check_fit(what: str, sizes: Sequence[int], room: int) -> None:
    if sum(sizes) > room:
        raise ValueError(f"a row has room for {room} {what} tokens; its examples have {sizes}")
