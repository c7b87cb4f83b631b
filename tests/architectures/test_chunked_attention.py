"""Attention by chunks is the dense one, on every mesh; no device exchanges, or holds, all pairs."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from archobj_jax.architectures import attention_kernels
from archobj_jax.architectures.attention_parts import Dropout, Structure
from archobj_jax.architectures.chunked_attention import ChunkedAttention
from archobj_jax.architectures.dense_attention import XlaAttention
from archobj_jax.architectures.masks import BIDIRECTIONAL, CAUSAL, PREFIX, Mask, Places
from archobj_jax.errors import UserError
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.partitioning.rules import activated
from tests import tiny

ROWS, LENGTH, SOURCE, HEADS, SIZE = 8, 6, 7, 4, 5
ONE_HEAD = 4 * LENGTH * SOURCE


@dataclasses.dataclass(frozen=True)
class Case:
    mask: Mask = CAUSAL
    groups: int = HEADS
    bias_rows: int | None = 1
    rate: float = 0.0
    chunk_bytes: int = 2 * ONE_HEAD
    mesh: tuple[tuple[str, int], ...] = ()


CASES = {
    "causal": Case(),
    "prefix, a bias a row, dropout": Case(PREFIX, bias_rows=ROWS, rate=0.5),
    "no bias, shared heads": Case(BIDIRECTIONAL, 2, None, chunk_bytes=4 * ONE_HEAD),
    "several rows a chunk": Case(chunk_bytes=2 * HEADS * ONE_HEAD, rate=0.5),
    "rows on four": Case(rate=0.5, mesh=(("data", 2), ("fsdp", 2))),
    "rows on four, a bias each": Case(PREFIX, bias_rows=4, mesh=(("data", 2), ("fsdp", 2))),
    "rows on four, a bias a row": Case(bias_rows=ROWS, mesh=(("fsdp", 4),)),
    "rows and heads": Case(groups=2, mesh=(("fsdp", 2), ("tensor", 2))),
    "lengths and rows": Case(rate=0.5, mesh=(("fsdp", 2), ("sequence", 2))),
    "heads that share one": Case(groups=1, rate=0.5, mesh=(("tensor", 4),)),
}


def arrays(case: Case) -> tuple[dict[str, jax.Array], Structure]:
    rng = np.random.default_rng(0)
    shapes = {
        "query": (ROWS, LENGTH, HEADS, SIZE),
        "key": (ROWS, SOURCE, case.groups, SIZE),
        "value": (ROWS, SOURCE, case.groups, SIZE),
    }
    if case.bias_rows:
        shapes["bias"] = (case.bias_rows, HEADS, LENGTH, SOURCE)
    made = {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
    }

    def places(length: int) -> Places:
        segment = np.sort(rng.integers(1, 3, (ROWS, length)), axis=1)
        segment[:, -1] = 0
        return Places.of(
            jnp.asarray(segment, jnp.int32), jnp.asarray(rng.integers(0, 2, (ROWS, length)))
        )

    return made, Structure(places(LENGTH), places(SOURCE), mask=case.mask)


def results(attention, case: Case, rules=None):
    """Output and gradients; and the compiled text."""
    made, structure = arrays(case)
    dropout = Dropout(jax.random.key(1), case.rate) if case.rate else None
    weights = jnp.cos(
        jnp.arange(made["query"].size, dtype=jnp.float32).reshape(made["query"].shape)
    )

    def loss(a):
        out = attention(**{"bias": None, **a}, structure=structure, dropout=dropout)
        return jnp.sum(weights * jnp.sin(out)), out

    def run(a):
        return jax.value_and_grad(loss, has_aux=True)(a)

    if rules is None:
        compiled = jax.jit(run).lower(made).compile()
        return compiled(made), compiled.as_text()
    axes = {"query": "heads", "key": "kv_heads", "value": "kv_heads"}
    spread = {
        name: jax.device_put(
            x,
            rules.sharding(x.shape, ("batch", None, axes[name], "kv"))
            if name in axes
            else rules.sharding(x.shape, ("batch", "heads", None, None)),
        )
        for name, x in made.items()
    }
    with activated(rules):
        compiled = jax.jit(run).lower(spread).compile()
    return compiled(spread), compiled.as_text()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_and_gradients_are_the_dense_ones(case: Case):
    rules = None
    if case.mesh:
        rules = tiny.blueprint(tiny.CD(tiny.NETWORK), 4, **dict(case.mesh)).rules
    ((_, out), gradients), _ = results(ChunkedAttention(case.chunk_bytes), case, rules)
    ((_, expected), of_dense), _ = results(XlaAttention(), case)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    for name in of_dense:
        np.testing.assert_allclose(
            gradients[name], of_dense[name], rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_nothing_is_exchanged_where_each_device_has_a_bias_of_its_own():
    case = CASES["rows on four, a bias each"]
    rules = tiny.blueprint(tiny.CD(tiny.NETWORK), 4, data=2, fsdp=2).rules
    _, text = results(ChunkedAttention(case.chunk_bytes), case, rules)
    exchanged = re.findall(r"= (\S+) (?:all-|reduce-scatter|collective)", text)
    assert all(shape.startswith("f32[]") for shape in exchanged), exchanged  # the loss alone


def test_no_array_holds_more_pairs_than_a_chunk():
    case = Case(bias_rows=None)
    made, structure = arrays(case)

    def loss(a):
        attention = ChunkedAttention(case.chunk_bytes)
        return attention(**a, structure=structure, bias=None, dropout=None).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(made))
    rows = re.findall(rf"(?:f32|bool)\[(\d+),(\d+),{LENGTH},{SOURCE}\]", text)
    assert {int(n) * int(heads) for n, heads in rows} == {1, 2}


def test_a_models_loss_and_gradients_are_the_dense_ones(monkeypatch):
    kernels = {**attention_kernels.KERNELS, "chunked": ChunkedAttention(2**10)}
    monkeypatch.setattr(attention_kernels, "KERNELS", kernels)
    made = {}
    for kernel, policy in (("xla", "none"), ("chunked", "attention")):
        network = tiny.network(
            attention_kernel=kernel, remat_policy=policy, dropout_rate=0.1, num_kv_heads=2
        )
        model = tiny.ND(network)
        graphdef = nnx.graphdef(model.abstract())
        params = tiny.parameters(tiny.ND(tiny.network(num_kv_heads=2)))
        batch = tiny.two_rows(model)

        def loss(params, graphdef=graphdef, batch=batch):
            logits = nnx.merge(graphdef, params)(batch, key=jax.random.key(0))
            return jnp.mean(jax.nn.logsumexp(logits, axis=-1))

        made[kernel] = jax.jit(jax.value_and_grad(loss))(params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        made["chunked"],
        made["xla"],
    )


def test_bfloat16_is_as_near_to_float32_as_the_dense_one():
    case = Case()
    made, structure = arrays(case)
    exact = XlaAttention()(**made, structure=structure, dropout=None)
    low = {name: x.astype(jnp.bfloat16) for name, x in made.items()}

    def error(attention) -> float:
        out = attention(**low, structure=structure, dropout=None).astype(jnp.float32)
        return float(jnp.sqrt(jnp.mean(jnp.square(out - exact))))

    assert error(ChunkedAttention(case.chunk_bytes)) < 1.2 * error(XlaAttention())


def test_lengths_and_heads_on_one_mesh_axis_are_refused():
    partitioner = Partitioner(tensor=2, rules=(("length", ("tensor",)),))
    rules = partitioner.logical_axis_rules(partitioner.mesh(jax.devices()[:2]))
    query = jnp.zeros((2, 8, 4, 4))
    places = Places.of(jnp.ones((2, 8), jnp.int32))
    structure = Structure(places, places, BIDIRECTIONAL)
    with activated(rules), pytest.raises(UserError, match="'length' and 'heads' both on tensor"):
        ChunkedAttention()(query, query, query, structure=structure, bias=None, dropout=None)
