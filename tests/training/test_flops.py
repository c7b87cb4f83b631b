"""Operations counted by hand for tiny models, and against what XLA counts."""

import jax
import numpy as np
import pytest

from archobj_jax.training.flops import (
    PEAK_FLOPS,
    batch_flops,
    device_peak,
    forward_flops,
    positions,
    train_flops,
)
from tests import tiny

# D 16, H 4, K 8 (H K = 32), F 32, V 64, two layers.
PROJECTIONS, FEED_FORWARD, LOGITS = 4 * 16 * 32, 3 * 16 * 32, 16 * 64


def count(model, **lengths) -> float:
    return forward_flops(model.network, tiny.blueprint(model).infos, **lengths)


def test_a_decoder_by_hand():
    layer = 10 * (PROJECTIONS + FEED_FORWARD) + 2 * 10 * 10 * 32  # scores, and weights by values
    assert count(tiny.CD(tiny.NETWORK), rows=3, target_length=10) == 3 * 2 * (
        2 * layer + 10 * LOGITS
    )


def test_an_encoder_decoder_by_hand():
    target, source = 10, 14
    encoder = source * (PROJECTIONS + FEED_FORWARD) + 2 * source * source * 32
    decoder = target * (PROJECTIONS + FEED_FORWARD) + 2 * target * target * 32
    cross = (target + source) * PROJECTIONS // 2 + 2 * target * source * 32
    expected = 3 * 2 * (2 * (encoder + decoder + cross) + target * LOGITS)
    made = count(tiny.ED(tiny.NETWORK), rows=3, target_length=target, source_length=source)
    assert made == expected


def test_untied_logits_and_grouped_queries_count_what_they_multiply():
    tied, untied = (tiny.CD(tiny.network(logits_via_embedding=tied)) for tied in (True, False))
    lengths = {"rows": 2, "target_length": 8}
    assert count(tied, **lengths) == count(untied, **lengths)
    grouped = tiny.CD(tiny.network(num_kv_heads=1))
    saved = 2 * 2 * 8 * 2 * (2 * 16 * (32 - 8))  # keys and values of two layers
    assert count(tied, **lengths) - count(grouped, **lengths) == saved


@pytest.mark.parametrize(
    ("symbol", "lengths"),
    [("CD", {"target_length": 24}), ("ED", {"target_length": 10, "source_length": 14})],
)
def test_a_batch_counts_all_that_it_reads(symbol: str, lengths: dict[str, int]):
    model = tiny.SYMBOLS[symbol](tiny.NETWORK)
    spec = model.layout.spec({"inputs": 14, "targets": 10})
    batch = {
        name: jax.ShapeDtypeStruct((3, *shape), dtype) for name, (shape, dtype) in spec.items()
    }
    infos = tiny.blueprint(model).infos
    assert batch_flops(model.network, infos, batch) == count(model, rows=3, **lengths)
    assert positions(batch) == 3 * 24


@pytest.mark.parametrize("symbol", ["CD", "ED"])
def test_close_to_what_xla_counts(symbol: str):
    # One layer: XLA counts the body of a scan once.
    model = tiny.SYMBOLS[symbol](
        tiny.network(num_decoder_layers=1, num_encoder_layers=1, emb_dim=64, mlp_dim=256)
    )
    batch = tiny.two_rows(model)
    compiled = tiny.logits_of(model).lower(tiny.parameters(model), batch).compile()
    lengths = (
        {"target_length": 28} if symbol == "CD" else {"target_length": 12, "source_length": 16}
    )
    counted = compiled.cost_analysis()["flops"]
    made = count(model, rows=2, **lengths)
    assert made <= counted < 1.25 * made
    assert train_flops(made) == 3 * made


def test_the_peak_of_a_cpu_is_measured_and_shared_by_its_devices():
    device = jax.devices("cpu")[0]
    assert device.device_kind not in PEAK_FLOPS
    peak, source = device_peak(device)
    assert 1e8 < peak < 1e14
    assert "measured" in source
    assert np.isfinite(peak)
