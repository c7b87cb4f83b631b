"""A compiled module read back: three scanned layers x + relu(x w) v and their gradients.

layers.hlo is libtpu's, for four chips, fsdp=2 and tensor=2: x [64, 256], w [3, 256, 512] and
v [3, 512, 256] in float32. What it must hold follows from these shapes.
"""

from pathlib import Path

import pytest

from archobj_jax.planning import hlo
from archobj_jax.planning.collectives import collectives, first_group
from archobj_jax.planning.work import kernels, product_flops

MESH = {"data": 1, "fsdp": 2, "tensor": 2}
LAYERS, CHIPS = 3, 4


@pytest.fixture(scope="module")
def module() -> hlo.Module:
    return hlo.parse((Path(__file__).parent / "layers.hlo").read_text())


def test_loops_run_once_a_layer(module: hlo.Module):
    times = [times for computation, times, fused in module.executed() if not fused]
    assert times == [1.0, LAYERS, LAYERS]


def test_products_are_counted_as_often_as_they_run(module: hlo.Module):
    product = 2 * 64 * 256 * 512
    assert sum(k.times * k.flops for k in kernels(module)) == 6 * LAYERS * product / CHIPS


def test_collectives_have_their_axis_and_their_whole_array(module: hlo.Module):
    found = {}
    for each in collectives(module, MESH):
        name = (each.kind, each.axes, each.dtype)
        found[name] = found.get(name, 0) + each.bytes
    kernel = 256 * 512 // 2  # w or v of a layer, its tensor half
    assert found == {
        ("all-gather", ("fsdp",), "bf16"): 2 * LAYERS * 2 * kernel * 2,  # forward and backward
        ("reduce-scatter", ("fsdp",), "f32"): LAYERS * 2 * kernel * 4,
        ("all-reduce", ("tensor",), "f32"): 2 * LAYERS * 32 * 256 * 4,
    }


def test_hbm_traffic_leaves_out_what_lies_in_other_memory(module: hlo.Module):
    moved = sum(k.times * k.bytes for k in kernels(module))
    parameters = 2 * LAYERS * 256 * 512 * 4 // CHIPS
    # Read for each pass and written as gradients; activations stay in CMEM.
    assert 2 * parameters <= moved <= 8 * parameters


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("{{0,2},{1,3}}", (0, 2)),
        ("{}", ()),
        ("[2,2]<=[4]", (0, 1)),
        ("[2,2]<=[2,2]T(1,0)", (0, 2)),
        ("[4,2]<=[2,2,2]T(0,2,1)", (0, 2)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", (0, 1, 2, 3)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", (0, 4)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1','axis_0'}", tuple(range(8))),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1':(1)2}", (0, 2)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1':(2)2}", (0, 1)),
    ],
)
def test_groups_in_all_their_forms(text: str, group: tuple[int, ...]):
    assert first_group(text) == group


def _module(condition: str, *, annotated: str = "", start: str = "0") -> hlo.Module:
    return hlo.parse(f"""\
HloModule m

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {{
  %p = (s32[], f32[8,4]{{1,0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,4]{{1,0}} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %t = (s32[], f32[8,4]{{1,0}}) tuple(%next, %x)
}}

%condition (p: (s32[], f32[8,4])) -> pred[] {{
  %p = (s32[], f32[8,4]{{1,0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(7)
  ROOT %c = pred[] compare(%i, %n), direction={condition}
}}

ENTRY %main (x: f32[8,4]) -> (s32[], f32[8,4]) {{
  %x = f32[8,4]{{1,0}} parameter(0)
  %zero = s32[] constant({start})
  %t = (s32[], f32[8,4]{{1,0}}) tuple(%zero, %x)
  ROOT %w = (s32[], f32[8,4]{{1,0}}) while(%t), condition=%condition, body=%body{annotated}
}}
""")


def _trips(module: hlo.Module) -> int:
    entry = module.computations[module.entry]
    return module.trip_count(entry, entry.root)


def test_trip_counts_come_from_the_annotation_or_the_condition():
    assert _trips(_module("LT")) == 7
    assert _trips(_module("LT", start="3")) == 4
    known = ', backend_config={"known_trip_count":{"n":"5"}}'
    assert _trips(_module("NE", annotated=known)) == 5
    with pytest.raises(ValueError, match=r"condition of w is no `counter < constant`"):
        _trips(_module("NE"))


@pytest.mark.parametrize(
    ("left", "right", "out", "attributes", "flops"),
    [
        ("f32[8,16]", "f32[16,32]", "f32[8,32]", "lhs_contracting_dims={1}", 2 * 8 * 16 * 32),
        # As a TPU has it, bf_io->bf.
        ("f32[8,16]", "f32[16,32]", "f32[8,32]", "dim_labels=bf_io->bf", 2 * 8 * 16 * 32),
        # The contraction as a spatial dimension: one output place meets the whole kernel.
        ("f32[4,8,1]", "f32[4,1,32]", "f32[1,8,32]",
         "window={size=4}, dim_labels=0bf_0io->0bf", 2 * 4 * 8 * 32),
        # Batched over 4: dilated so that each place of the output meets one of the kernel.
        ("f32[4,8,16]", "f32[4,16,32]", "f32[4,8,32]",
         "window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf", 2 * 4 * 8 * 16 * 32),
    ],
)  # fmt: skip
def test_products_in_all_their_forms(left: str, right: str, out: str, attributes: str, flops: int):
    opcode = "dot" if "contracting" in attributes else "convolution"
    module = hlo.parse(
        f"ENTRY %main (a: {left}, b: {right}) -> {out} {{\n"
        f"  %a = {left}{{1,0}} parameter(0)\n  %b = {right}{{1,0}} parameter(1)\n"
        f"  ROOT %c = {out}{{1,0:T(8,128)(2,1)S(1)}} {opcode}(%a, %b), {attributes}\n}}\n"
    )
    entry = module.computations["main"]
    assert product_flops(entry, entry.root) == flops
    assert entry.root.result[0].space == 1
