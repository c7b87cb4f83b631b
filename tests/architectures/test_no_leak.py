"""No position sees its own target, another example, or anything else that it must not.

By perturbation, for all nine pairs of architecture and objective, whole: one raw token of a window
is changed, the objective (same randomness), the layout and the model run again, and logits must not
move where they may not read what changed. So is each target token, sentinels and EOS too.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio

from archobj_jax.data import loader
from archobj_jax.objectives import (
    Example,
    FullLm,
    PrefixLm,
    SpanCorruption,
    WindowObjective,
    rng_for,
)
from tests import tiny
from tests.data.corpora import examples, register_examples

SPANS = SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0)
OBJECTIVES: dict[str, tuple[WindowObjective, dict[str, int]]] = {
    "FLM": (FullLm(), {"targets": 9}),
    "PLM": (PrefixLm(), {"inputs": 9, "targets": 9}),
    "MLM": (SPANS, {"inputs": 11, "targets": 7}),
}
PACKED = {"FLM": 3, "PLM": 2, "MLM": 2}
ROWS = 60
ROW = {"inputs": 26, "targets": 28}
PAIRS = [(a, o, packed) for a in tiny.SYMBOLS for o in OBJECTIVES for packed in (False, True)]
PLACES = ("segment_ids", "positions", "loss_weights", "causal_attention")


def with_other_targets(examples: list[Example]) -> Iterator[list[Example]]:
    """`examples` with one target token changed, for each of them."""
    for index, example in enumerate(examples):
        for place in range(example["targets"].size):
            targets = example["targets"].copy()
            targets[place] = (targets[place] + 7) % tiny.TinyVocabulary.vocab_size
            yield [*examples[:index], {**example, "targets": targets}, *examples[index + 1 :]]


@functools.cache
def perturbed(architecture: str, objective: str, packed: bool):
    """Rows, the first as it is, each other with one raw or target token changed; their logits."""
    made, lengths = OBJECTIVES[objective]
    window = made.window(lengths)
    windows = PACKED[objective] if packed and objective != "PLM" else 1
    raw = np.random.default_rng(3).integers(2, 40, (windows, window)).astype(np.int32)
    rows = []
    for place in range(-1, raw.size):
        tokens = raw.copy()
        if place >= 0:
            tokens.flat[place] += 7
        examples = [
            example
            for index, one in enumerate(tokens)
            for example in made.examples(one, rng_for(0, index), lengths, tiny.TinyVocabulary())
        ]
        rows.append(examples if packed else examples[:1])
    rows += list(with_other_targets(rows[0]))
    model = tiny.SYMBOLS[architecture](tiny.NETWORK)
    # Padded to one number of rows, so that an architecture is compiled once.
    rows += rows[:1] * (ROWS - len(rows))
    batch = tiny.batch_of(model, rows, ROW)
    logits = tiny.logits_of(model)(tiny.parameters(model), batch)
    return jax.tree.map(np.asarray, batch), np.asarray(logits)


@pytest.mark.parametrize(("architecture", "objective", "packed"), PAIRS)
def test_no_position_sees_its_own_target(architecture: str, objective: str, packed: bool):
    batch, logits = perturbed(architecture, objective, packed)
    segments, weights = batch["decoder_segment_ids"][0], batch["decoder_loss_weights"][0]
    assert segments.max() == (PACKED[objective] if packed else 1)
    moved = np.abs(logits - logits[0]).max(axis=-1) > 0
    targets = batch["decoder_target_tokens"]
    seen = 0
    for row in range(1, len(targets)):
        for at in np.flatnonzero((targets[row] != targets[0]) & (weights > 0)):
            seen += 1
            own = segments == segments[at]
            assert not moved[row, : at + 1][own[: at + 1]].any()
            if at + 1 < own.size and own[at + 1]:
                assert moved[row, at + 1], "the next position reads the token"
    assert seen == np.unique(np.argwhere((targets != targets[0]) & (weights > 0)), axis=0).shape[0]
    assert seen >= weights.sum()


@pytest.mark.parametrize(("architecture", "objective", "packed"), PAIRS)
def test_examples_of_a_row_do_not_see_each_other(architecture: str, objective: str, packed: bool):
    batch, logits = perturbed(architecture, objective, packed)
    segments = batch["decoder_segment_ids"][0]
    moved = np.abs(logits - logits[0]).max(axis=-1) > 0
    changed = np.zeros((len(logits), segments.max() + 1), bool)
    for side in ("decoder_target", "encoder_input"):
        if f"{side}_tokens" in batch:
            differs = batch[f"{side}_tokens"] != batch[f"{side}_tokens"][0]
            where = batch[f"{side.split('_')[0]}_segment_ids"][0]
            for segment in range(segments.max() + 1):
                changed[:, segment] |= differs[:, where == segment].any(axis=1)
    assert changed[:, 1:].any(axis=0).all()
    assert (changed[1:, 1:].sum(axis=1) <= 1).all(), "one raw token lands in one example"
    for segment in range(1, segments.max() + 1):
        assert not moved[~changed[:, segment]][:, segments == segment].any()


@pytest.mark.parametrize(("architecture", "objective", "packed"), PAIRS)
def test_a_raw_token_lands_in_one_place(architecture: str, objective: str, packed: bool):
    """In the inputs or in the targets: never in both, where one would give the other away."""
    batch, _ = perturbed(architecture, objective, packed)
    names = [
        name for name in batch if name.endswith(("decoder_target_tokens", "encoder_input_tokens"))
    ]
    differs = sum((batch[name] != batch[name][0]).sum(axis=1) for name in names)
    assert differs.max() == 1
    for name in batch:
        if name.endswith(PLACES):
            np.testing.assert_array_equal(
                batch[name], np.broadcast_to(batch[name][0], batch[name].shape)
            )


@pytest.mark.parametrize(("architecture", "sees"), [("CD", False), ("ND", True), ("ED", True)])
def test_only_bidirectional_inputs_see_later_inputs(architecture: str, sees: bool):
    model = tiny.SYMBOLS[architecture](tiny.NETWORK)
    examples = [tiny.example(7, 5), tiny.example(6, 4, 1)]
    last = {**examples[0], "inputs": examples[0]["inputs"].copy()}
    last["inputs"][-1] += 1
    rows = [examples, [last, examples[1]]] + [examples] * (ROWS - 2)
    batch = tiny.batch_of(model, rows, ROW)
    logits = tiny.logits_of(model)(tiny.parameters(model), batch)
    moved = np.asarray(jnp.abs(logits[1] - logits[0]).max(axis=-1) > 0)
    reads_last = 0 if architecture == "ED" else 7  # where the decoder reads the last input
    assert moved[reads_last]
    assert moved[0] == sees
    if architecture == "ND":
        assert moved[:12].all()
    if architecture == "CD":
        assert not moved[:7].any()


@pytest.fixture
def packed_task(tmp_path: Path) -> Iterator[loader.DatasetConfig]:
    """A task of small examples; `ROW` has room for several."""
    made = examples(40, inputs=9, targets=5)
    task = register_examples("no_leak_pairs", made)
    yield loader.DatasetConfig(task.name, ROW, "validation", 1, cache_dir=str(tmp_path))
    seqio.TaskRegistry.remove(task.name)


def with_another_example(batch: dict[str, np.ndarray], segment: int) -> dict[str, np.ndarray]:
    """`batch` with every token of one example changed, wherever it is read or predicted."""
    changed = {name: array.copy() for name, array in batch.items()}
    for name in set(batch) & {"decoder_target_tokens", "encoder_input_tokens"}:
        own = batch[f"{name.split('_')[0]}_segment_ids"] == segment
        changed[name][own] += 7
    read = (batch["decoder_segment_ids"] == segment) & (batch["decoder_positions"] > 0)
    changed["decoder_input_tokens"][read] += 7
    return changed


@pytest.mark.parametrize("architecture", tiny.SYMBOLS)
def test_packed_examples_of_the_loader_do_not_see_each_other(architecture: str, packed_task):
    model = tiny.SYMBOLS[architecture](tiny.NETWORK)
    ((_, batches),) = loader.eval_batches(packed_task, model.layout).items()
    for batch in batches:
        segments = batch["decoder_segment_ids"][0]
        count = int(segments.max())
        assert 2 <= count < 8
        rows = [batch, *(with_another_example(batch, s) for s in range(1, count + 1))]
        rows += rows[:1] * (8 - len(rows))  # one number of rows is compiled once
        stacked = {name: jnp.asarray(np.concatenate([row[name] for row in rows])) for name in batch}
        logits = np.asarray(tiny.logits_of(model)(tiny.parameters(model), stacked))
        same = (logits == logits[0]).all(axis=-1)
        for segment in range(1, count + 1):
            # Padding sees no token at all, so that its logits are of everything: they weigh 0.
            others = (segments != segment) & (segments > 0)
            assert same[segment][others].all()
            assert not same[segment][np.flatnonzero(segments == segment)[1:]].any()
        assert not batch["decoder_loss_weights"][0][segments == 0].any()
