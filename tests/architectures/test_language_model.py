"""Parameters of the architectures: names, counts, and what CD and ND share."""

from pathlib import Path

import jax
import numpy as np
import pytest

from archobj_jax import config
from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.parameters import parameter_infos
from archobj_jax.errors import UserError
from tests import tiny

ROOT = Path(__file__).parents[2]


def carry(model: Architecture) -> Architecture:
    """Takes what gin makes of MODEL."""
    return model


def configured(architecture: str, size: str) -> Architecture:
    names = (f"models/{size}", f"architectures/{architecture}", "corpora/c4")
    files = [str(ROOT / f"t5x_configs/{name}.gin") for name in names]
    config.parse(files, ["carry.model=%MODEL"], functions=[carry])
    return config.call(carry)


def count(architecture: Architecture) -> int:
    return sum(info.size for info in parameter_infos(architecture.abstract()))


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [("cd", 4_762_357_760), ("nd", 4_762_357_760), ("ed", 11_003_736_064)],
)
def test_the_studys_models_have_the_studys_counts(architecture: str, parameters: int):
    assert count(configured(architecture, "xxl")) == parameters


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_untied_logits_add_a_projection_and_leave_the_rest(symbol: str):
    tied, untied = (
        tiny.SYMBOLS[symbol](tiny.network(logits_via_embedding=tied)) for tied in (True, False)
    )
    assert count(untied) - count(tied) == tiny.NETWORK.vocab_size * tiny.NETWORK.emb_dim
    names = [{info.name for info in parameter_infos(m.abstract())} for m in (tied, untied)]
    assert names[1] - names[0] == {"logits_dense/kernel"}
    logits = tiny.logits_of(untied)(tiny.parameters(untied), tiny.two_rows(untied))
    assert np.isfinite(logits).all()


def test_causal_and_non_causal_decoder_differ_in_the_mask_alone():
    cd, nd = tiny.CD(tiny.NETWORK), tiny.ND(tiny.NETWORK)
    assert list(parameter_infos(cd.abstract())) == list(parameter_infos(nd.abstract()))
    params = tiny.parameters(cd)
    jax.tree.map(np.testing.assert_array_equal, params, tiny.parameters(nd))
    batch = tiny.two_rows(cd)
    causal = {**batch, "decoder_causal_attention": 0 * batch["decoder_causal_attention"]}
    read_causally = tiny.logits_of(nd)(params, causal)
    np.testing.assert_array_equal(read_causally, tiny.logits_of(cd)(params, batch))
    assert np.abs(tiny.logits_of(nd)(params, batch) - read_causally).max() > 1e-3


def test_logits_are_those_of_the_embedding_over_sqrt_d():
    model = tiny.CD(tiny.NETWORK)
    params, batch = tiny.parameters(model), tiny.two_rows(model)
    bound = tiny.blueprint(model).bind(params)
    hidden = bound.hidden(batch)
    expected = np.asarray(hidden) @ np.asarray(params["token_embedder"]["embedding"]).T / 4.0
    np.testing.assert_allclose(bound(batch), expected, atol=1e-5)


def test_an_encoder_decoder_needs_an_encoder():
    with pytest.raises(UserError, match="num_encoder_layers"):
        tiny.ED(tiny.network(num_encoder_layers=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_dim": 0}, "emb_dim = 0"),
        ({"num_decoder_layers": 0}, "num_decoder_layers"),
        ({"num_kv_heads": 3}, "num_kv_heads = 3 must divide"),
        ({"dropout_rate": 1.0}, "dropout_rate = 1.0"),
        ({"positions": "rope", "head_dim": 7}, "rope needs an even"),
        ({"positions": "ropee"}, "Did you mean 'rope'"),
        ({"remat_policy": "minimum"}, "Did you mean 'minimal'"),
        ({"dtype": "bfloat61"}, "Did you mean 'bfloat16'"),
        ({"mlp_activations": ("gelo",)}, "Did you mean 'gelu'"),
    ],
)
def test_a_field_out_of_range_is_named_with_the_nearest_choice(changes: dict, message: str):
    with pytest.raises(UserError, match="NetworkConfig") as caught:
        tiny.network(**changes)
    assert message in str(caught.value)
