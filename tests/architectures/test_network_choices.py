"""What a network can be configured to: each choice runs, and changes what it must."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.layers import MlpBlock
from archobj_jax.architectures.parameters import parameter_infos
from tests import tiny


def logits(model: Architecture, params: dict, batch: dict) -> np.ndarray:
    made = tiny.logits_of(model)(params, batch)
    assert made.dtype == jnp.float32
    assert np.isfinite(made).all()
    return np.asarray(made)


def shapes(model: Architecture) -> dict[str, tuple[int, ...]]:
    return {info.name: info.shape for info in parameter_infos(model.abstract())}


@pytest.fixture(scope="module")
def base() -> np.ndarray:
    model = tiny.CD(tiny.NETWORK)
    return logits(model, tiny.parameters(model), tiny.two_rows(model))


def test_as_many_key_value_heads_as_heads_is_multi_head_attention(base):
    model = tiny.CD(tiny.network(num_kv_heads=4))
    assert shapes(model) == shapes(tiny.CD(tiny.NETWORK))
    params, batch = tiny.parameters(model), tiny.two_rows(model)
    np.testing.assert_array_equal(logits(model, params, batch), base)


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_queries_are_multi_head_attention_with_repeated_keys_and_values(groups: int):
    grouped = tiny.CD(tiny.network(num_kv_heads=groups))
    params, batch = tiny.parameters(grouped), tiny.two_rows(grouped)
    assert shapes(grouped)["decoder/layers/self_attention/key/kernel"] == (2, 16, groups * 8)

    def repeat(path, x):
        if path[-2].key not in ("key", "value"):
            return x
        kernel = x.reshape(2, 16, groups, 1, 8)
        return jnp.broadcast_to(kernel, (2, 16, groups, 4 // groups, 8)).reshape(2, 16, 32)

    repeated = jax.tree_util.tree_map_with_path(repeat, params)
    expected = logits(tiny.CD(tiny.NETWORK), repeated, batch)
    np.testing.assert_allclose(logits(grouped, params, batch), expected, atol=2e-5)


@pytest.mark.parametrize("positions", ["rope", "none"])
def test_other_positions_have_no_table(positions: str, base):
    model = tiny.CD(tiny.network(positions=positions))
    tables = {name for name in shapes(tiny.CD(tiny.NETWORK)) if "relpos" in name}
    assert shapes(tiny.CD(tiny.NETWORK)).keys() - shapes(model).keys() == tables
    made = logits(model, without_tables(), tiny.two_rows(model))
    assert np.abs(made - base).max() > 1e-2


def without_tables() -> dict:
    params = tiny.parameters(tiny.CD(tiny.NETWORK))
    layers = {k: v for k, v in params["decoder"]["layers"].items() if k != "relpos_bias"}
    return {**params, "decoder": {**params["decoder"], "layers": layers}}


def test_without_positions_order_within_a_bidirectional_prefix_means_nothing():
    first, swapped = tiny.example(6, 4), tiny.example(6, 4)
    # The decoder's first input is the start token; what it reads after that changes places.
    swapped["inputs"] = swapped["inputs"][[1, 0, 2, 4, 3, 5]]
    differs = {}
    for positions in ("none", "rope"):
        model = tiny.ND(tiny.network(positions=positions))
        batch = tiny.batch_of(model, [[first], [swapped]], {"inputs": 16, "targets": 12})
        made = logits(model, without_tables(), batch)
        differs[positions] = np.abs(made[0, 6:10] - made[1, 6:10]).max()
    assert differs["none"] < 1e-4
    assert differs["rope"] > 1e-2


def test_one_table_a_stack_is_a_table_in_every_layer_all_alike():
    shared = tiny.ED(tiny.network(positions="relative_shared"))
    per_layer = tiny.ED(tiny.NETWORK)
    params, batch = tiny.parameters(shared), tiny.two_rows(shared)
    copied = {}
    for name, tree in params.items():
        copied[name] = tree
        if name != "token_embedder":
            table = tree["relpos_bias"]["rel_embedding"]
            layers = {**tree["layers"], "relpos_bias": {"rel_embedding": jnp.stack([table, table])}}
            copied[name] = {"layers": layers, "norm": tree["norm"]}
    np.testing.assert_allclose(
        logits(shared, params, batch), logits(per_layer, copied, batch), atol=1e-5
    )


def test_swiglu_is_the_product_of_a_silu_and_a_linear_projection(base):
    model = tiny.CD(tiny.network(mlp_activations=("silu", "linear")))
    assert shapes(model) == shapes(tiny.CD(tiny.NETWORK))
    params, batch = tiny.parameters(model), tiny.two_rows(model)
    assert np.abs(logits(model, params, batch) - base).max() > 1e-2
    layer = jax.tree.map(lambda p: p[0], params["decoder"]["layers"]["mlp"])
    kernels = {name: np.asarray(layer[name]["kernel"]) for name in ("wi_0", "wi_1", "wo")}
    x = np.random.default_rng(0).normal(size=(1, 3, 16)).astype(np.float32)
    gate = x @ kernels["wi_0"]
    expected = (gate / (1 + np.exp(-gate)) * (x @ kernels["wi_1"])) @ kernels["wo"]
    np.testing.assert_allclose(apply_mlp(model, layer, x), expected, rtol=1e-4, atol=1e-5)


def apply_mlp(model: Architecture, params: dict, x: np.ndarray) -> np.ndarray:
    block = nnx.eval_shape(lambda: MlpBlock(model.network, rngs=nnx.Rngs(0)))
    return np.asarray(nnx.merge(nnx.graphdef(block), params)(jnp.asarray(x), None))


def test_a_plain_feed_forward_has_one_input_projection():
    model = tiny.CD(tiny.network(mlp_activations=("relu",)))
    names = {name.split("/")[3] for name in shapes(model) if "/mlp/" in name}
    assert names == {"wi", "wo"}
    layer = jax.tree.map(lambda p: p[1], tiny.parameters(model)["decoder"]["layers"]["mlp"])
    x = np.random.default_rng(0).normal(size=(1, 3, 16)).astype(np.float32)
    wi, wo = (np.asarray(layer[name]["kernel"]) for name in ("wi", "wo"))
    np.testing.assert_allclose(
        apply_mlp(model, layer, x), np.maximum(x @ wi, 0) @ wo, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("symbol", ["CD", "ED"])
def test_bfloat16_computes_in_it_and_keeps_parameters_and_logits_in_float32(symbol: str):
    half = tiny.SYMBOLS[symbol](tiny.network(dtype="bfloat16"))
    full = tiny.SYMBOLS[symbol](tiny.NETWORK)
    params, batch = tiny.parameters(full), tiny.two_rows(full)
    assert {info.dtype for info in parameter_infos(half.abstract())} == {"float32"}
    made, expected = logits(half, params, batch), logits(full, params, batch)
    rms = np.sqrt(np.mean((made - expected) ** 2)) / np.std(expected)
    assert 1e-4 < rms < 0.1
    blueprint = tiny.blueprint(half)
    text = str(jax.make_jaxpr(lambda p, b: blueprint.bind(p)(b))(params, batch))
    # Exponentials of the softmax and inverse roots of the norms: in float32, all of them.
    for operation in ("exp", "rsqrt"):
        lines = [line for line in text.splitlines() if re.search(rf"= {operation}(\[|\s)", line)]
        assert lines
        assert all(":f32" in line for line in lines), lines
