"""T5X's names for our parameters, there and back."""

import jax
import numpy as np
import pytest

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.parameters import parameter_infos
from archobj_jax.errors import UserError
from archobj_jax.interop.t5x import from_t5x, t5x_name, to_t5x
from tests import tiny


def both(model: Architecture) -> tuple[list, dict[str, np.ndarray]]:
    infos = list(parameter_infos(model.abstract()))
    return infos, to_t5x(tiny.parameters(model), infos)


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back_is_the_same(symbol: str, tied: bool):
    model = tiny.SYMBOLS[symbol](tiny.network(logits_via_embedding=tied))
    infos, arrays = both(model)
    made = from_t5x(arrays, infos)
    jax.tree.map(np.testing.assert_array_equal, made, tiny.parameters(model))
    assert sum(x.size for x in arrays.values()) == sum(info.size for info in infos)


@pytest.mark.parametrize(
    ("path", "layer", "has_encoder", "name"),
    [
        ("token_embedder/embedding", None, True, "token_embedder/embedding"),
        ("token_embedder/embedding", None, False, "decoder/token_embedder/embedding"),
        ("logits_dense/kernel", None, True, "decoder/logits_dense/kernel"),
        ("decoder/norm/scale", None, False, "decoder/decoder_norm/scale"),
        ("encoder/norm/scale", None, True, "encoder/encoder_norm/scale"),
        ("decoder/layers/mlp/wi_0/kernel", 3, False, "decoder/layers_3/mlp/wi_0/kernel"),
        (
            "encoder/layers/self_attention/query/kernel",
            0,
            True,
            "encoder/layers_0/attention/query/kernel",
        ),
        (
            "encoder/layers/pre_self_attention_layer_norm/scale",
            1,
            True,
            "encoder/layers_1/pre_attention_layer_norm/scale",
        ),
        ("decoder/relpos_bias/rel_embedding", None, True, "decoder/relpos_bias/rel_embedding"),
    ],
)
def test_names_are_t5xs(path: str, layer: int | None, has_encoder: bool, name: str):
    assert t5x_name(path.split("/"), layer, has_encoder=has_encoder) == name


def test_a_layer_of_a_stack_is_an_array_of_its_own():
    _, arrays = both(tiny.CD(tiny.NETWORK))
    kernel = tiny.parameters(tiny.CD(tiny.NETWORK))["decoder"]["layers"]["mlp"]["wo"]["kernel"]
    for layer in range(2):
        np.testing.assert_array_equal(
            arrays[f"decoder/layers_{layer}/mlp/wo/kernel"], kernel[layer]
        )


def test_slots_are_read_by_their_suffix():
    infos, arrays = both(tiny.CD(tiny.NETWORK))
    slots = {f"{name}/v": value for name, value in arrays.items()}
    made = from_t5x({**slots, "decoder/other/m": np.zeros(1)}, infos, suffix="/v")
    jax.tree.map(np.testing.assert_array_equal, made, tiny.parameters(tiny.CD(tiny.NETWORK)))


def test_what_is_missing_has_another_shape_or_is_left_over_is_named():
    infos, arrays = both(tiny.CD(tiny.NETWORK))
    name = "decoder/layers_1/mlp/wo/kernel"
    missing = {k: v for k, v in arrays.items() if k != name}
    with pytest.raises(UserError, match=f"have no '{name}'.*Did you mean"):
        from_t5x(missing, infos)
    with pytest.raises(
        UserError, match=r"decoder/norm/scale has the shape \[17\], expected \[16\]"
    ):
        from_t5x({**arrays, "decoder/decoder_norm/scale": np.zeros(17)}, infos)
    with pytest.raises(UserError, match="layers_2"):
        from_t5x({**arrays, "decoder/layers_2/mlp/wo/kernel": np.zeros(1)}, infos)
    ragged = {**arrays, name: np.zeros((2, 2), np.float32)}
    with pytest.raises(UserError, match=rf"'{name}' .* \[2, 2\], expected \[32, 16\]"):
        from_t5x(ragged, infos)
