"""Which parameter comes from which: named rules, combinations, and what none covers."""

import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.architectures.parameters import ParameterInfo, parameter_infos
from archobj_jax.architectures.positions import relative_position_bucket
from archobj_jax.errors import UserError
from archobj_jax.training.parameter_rules import (
    ADJUSTMENTS,
    NAMED_RULES,
    Origin,
    Rule,
    helpful,
    named,
    origins,
)
from tests import tiny

PER_LAYER, SHARED = (
    {"positions": "relative_per_layer"},
    {"positions": "relative_shared"},
)


def infos(architecture, **changes) -> list[ParameterInfo]:
    return list(parameter_infos(architecture(tiny.network(**changes)).abstract()))


def traced(target, source, *rules: str) -> dict[str, Origin]:
    found, uncovered = origins(target, source, named(rules))
    assert not uncovered, "\n".join(map(str, uncovered))
    return found


def test_cd_and_nd_need_no_rule():
    found = traced(infos(tiny.ND), infos(tiny.CD))
    assert all(origin == Origin(name) for name, origin in found.items())


def test_a_decoder_is_taken_from_an_encoder_decoder():
    source = infos(tiny.ED, **SHARED)
    found = traced(infos(tiny.CD), source, "take_decoder", "positions_per_layer")
    assert found["decoder/layers/mlp/wo/kernel"] == Origin("decoder/layers/mlp/wo/kernel")
    assert found["decoder/layers/relpos_bias/rel_embedding"] == Origin(
        "decoder/relpos_bias/rel_embedding", ("every_layer",)
    )


@pytest.mark.parametrize("reverse", [False, True])
def test_an_encoder_becomes_a_decoder_whatever_the_order(reverse):
    names = sorted(("take_encoder", "positions_per_layer"), reverse=reverse)
    found = traced(infos(tiny.CD), infos(tiny.ED, **SHARED), *names)
    assert found["decoder/layers/mlp/wo/kernel"] == Origin("encoder/layers/mlp/wo/kernel")
    assert found["decoder/norm/scale"] == Origin("encoder/norm/scale")
    assert found["token_embedder/embedding"] == Origin("token_embedder/embedding")
    assert found["decoder/layers/relpos_bias/rel_embedding"] == Origin(
        "encoder/relpos_bias/rel_embedding", ("causal_buckets", "every_layer")
    )


def test_a_decoder_fills_an_encoder_decoder_and_cross_attention_starts_anew():
    target = infos(tiny.ED, **SHARED)
    found = traced(target, infos(tiny.CD), "fill_encoder", "positions_shared")
    assert found["encoder/layers/self_attention/key/kernel"] == Origin(
        "decoder/layers/self_attention/key/kernel"
    )
    assert found["encoder/relpos_bias/rel_embedding"] == Origin(
        "decoder/layers/relpos_bias/rel_embedding", ("bidirectional_buckets", "first_layer")
    )
    anew = {name for name, origin in found.items() if origin.source is None}
    assert anew == {
        "decoder/layers/pre_cross_attention_layer_norm/scale",
        *(
            f"decoder/layers/encoder_decoder_attention/{part}/kernel"
            for part in ("query", "key", "value", "out")
        ),
    }


def test_more_layers_and_a_larger_vocabulary():
    target = infos(tiny.CD, num_decoder_layers=5, vocab_size=96, logits_via_embedding=False)
    source = infos(tiny.CD, logits_via_embedding=False)
    found = traced(target, source, "more_layers", "larger_vocabulary")
    assert found["decoder/layers/mlp/wo/kernel"].adjustments == ("more_layers",)
    assert found["token_embedder/embedding"].adjustments == ("more_ids",)
    assert found["logits_dense/kernel"].adjustments == ("more_ids",)


def test_what_no_rule_covers_is_listed_with_both_shapes_and_what_would_help():
    target, source = infos(tiny.CD, num_decoder_layers=3), infos(tiny.ED, **SHARED)
    _, uncovered = origins(target, source, [])
    listed = {str(one) for one in uncovered}
    assert "decoder/layers/mlp/wo/kernel: [3, 32, 16] here, [2, 32, 16] there" in listed
    assert "decoder/layers/relpos_bias/rel_embedding: [3, 4, 32] here, nothing there" in listed
    assert "encoder/norm/scale: nothing here, [16] there" in listed
    assert set(helpful(target, source, [])) == {
        ("more_layers", "positions_per_layer", "take_decoder"),
        ("more_layers", "positions_per_layer", "take_encoder"),
    }
    assert helpful(target, infos(tiny.CD, emb_dim=24), []) == []


def test_fewer_layers_or_ids_are_not_covered():
    source = infos(tiny.CD)
    for target in (infos(tiny.CD, num_decoder_layers=1), infos(tiny.CD, vocab_size=32)):
        assert origins(target, source, named(list(NAMED_RULES)[:2]))[1]


def test_rules_of_ones_own_come_first():
    own = Rule(r"decoder/norm/scale", "decoder/layers/pre_mlp_layer_norm/scale", "first_layer")
    left = Rule(None, "decoder/norm/scale")
    found, uncovered = origins(infos(tiny.CD), infos(tiny.CD), named(["more_layers", own, left]))
    assert not uncovered
    assert found["decoder/norm/scale"] == Origin(
        "decoder/layers/pre_mlp_layer_norm/scale", ("more_layers", "first_layer")
    )


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"no rule 'take_decodr'.*Did you mean 'take_decoder'"):
        named(["take_decodr"])
    with pytest.raises(UserError, match=r"no rule 'take_encodr'"):
        named("take_encodr")
    with pytest.raises(UserError, match=r"names group 2, and 'decoder/\(\.\*\)' has 1"):
        Rule("decoder/(.*)", r"encoder/\2")
    for wrong in ({"target": None, "source": None}, {"target": "a", "source": None}):
        with pytest.raises(UserError, match=r"an adjustment is of a value"):
            Rule(**wrong, adjustment="more_ids" if wrong["target"] else None)
    with pytest.raises(UserError, match=r"no regular expression"):
        Rule("decoder/(", None)
    with pytest.raises(UserError, match=r"Rule.adjustment = 'first'.*Did you mean 'first_layer'"):
        Rule("a", "b", "first")


def adjusted(name: str, source, fresh=None, *, shape, axes=()) -> np.ndarray:
    target = ParameterInfo(("a",), tuple(shape), "float32", tuple(axes), "")
    fresh = jnp.zeros(shape) if fresh is None else fresh
    return np.asarray(ADJUSTMENTS[name](jnp.asarray(source), fresh, target))


def test_layers_are_repeated_in_order():
    made = adjusted("more_layers", [[1.0], [2.0]], shape=(5, 1))
    np.testing.assert_array_equal(made[:, 0], [1, 1, 1, 2, 2])
    np.testing.assert_array_equal(adjusted("every_layer", [3.0], shape=(2, 1)), [[3.0], [3.0]])
    np.testing.assert_array_equal(adjusted("first_layer", [[1.0], [2.0]], shape=(1,)), [1.0])


def test_new_ids_start_fresh():
    made = adjusted(
        "more_ids", [[1.0], [2.0]], jnp.full((3, 1), 7.0), shape=(3, 1), axes=("vocab", "embed")
    )
    np.testing.assert_array_equal(made[:, 0], [1.0, 2.0, 7.0])


def test_position_tables_are_read_by_distance():
    """A causal table holds, for each distance, what the bidirectional one held for keys before."""
    bidirectional = np.arange(32.0)[None]
    causal = adjusted("causal_buckets", bidirectional, shape=(1, 32))
    for distance in (0, 1, 7):  # both kinds of table have a bucket for each of these alone
        there = relative_position_bucket(jnp.array([-distance]), bidirectional=True)[0]
        here = relative_position_bucket(jnp.array([-distance]), bidirectional=False)[0]
        assert causal[0, here] == bidirectional[0, there]
    back = adjusted("bidirectional_buckets", np.arange(32.0)[None], shape=(1, 32))
    ahead = relative_position_bucket(jnp.array([5]), bidirectional=True)[0]
    assert back[0, ahead] == 0.0  # where a prefix decoder has all keys after the query
    far = relative_position_bucket(jnp.array([-1000]), bidirectional=True)[0]
    nearest_causal = relative_position_bucket(jnp.array([-91]), bidirectional=False)[0]
    assert back[0, far] == float(nearest_causal)
