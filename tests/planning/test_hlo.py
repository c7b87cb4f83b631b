"""A compiled module read back: three scanned layers x + relu(x w) v and their gradients.

layers.hlo is libtpu's, for four chips, fsdp=2 and tensor=2: x [64, 256], w [3, 256, 512] and
v [3, 512, 256] in float32. What it must hold follows from these shapes.
"""

import dataclasses
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
    times = [each.times for each in module.executed() if not each.fused]
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


def _asynchronous(between: str) -> hlo.Module:
    """An all-reduce on the SparseCore, woken, given its operand and waited for, as a v5p has it."""
    array = "bf16[64,128]{1,0:T(8,128)(2,1)}"
    return hlo.parse(f"""\
HloModule m, is_scheduled=true

%add (a: bf16[], b: bf16[]) -> bf16[] {{
  %a = bf16[] parameter(0)
  %b = bf16[] parameter(1)
  ROOT %c = bf16[] add(%a, %b)
}}

%inner (p: bf16[64,128]) -> bf16[64,128] {{
  %p = {array} parameter(0)
  ROOT %all-reduce.1 = {array} all-reduce(%p), channel_id=1, replica_groups={{{{0,1}},{{2,3}}}}, \
to_apply=%add
}}, execution_thread="sparsecore"

%async_computation (p: bf16[64,128]) -> bf16[64,128] {{
  %p = {array} parameter(0)
  ROOT %custom-call.1 = {array} custom-call(%p), custom_call_target="TODO(b/1)", \
called_computations={{%inner}}
}}, execution_thread="sparsecore"

%product (l: bf16[64,128], r: bf16[64,128]) -> bf16[64,64] {{
  %l = {array} parameter(0)
  %r = {array} parameter(1)
  ROOT %d = bf16[64,64]{{1,0}} convolution(%l, %r), dim_labels=bf_oi->bf
}}

ENTRY %main (x: bf16[64,128]) -> (bf16[64,128], bf16[64,64]) {{
  %x = {array} parameter(0)
  %start = ((), (), (s32[64]{{0}})) async-start(), async_execution_thread="sparsecore", \
calls=%async_computation
  %before = bf16[64,64]{{1,0}} fusion(%x, %x), kind=kOutput, calls=%product
  %update = (({array}), {array}, (s32[64]{{0}})) async-update(%start, %x), \
output_to_operand_aliasing={{{{2,0}}: (0, {{2,0}})}}
{between}
  %done = {array} async-done(%update)
  ROOT %t = ({array}, bf16[64,64]{{1,0}}) tuple(%done, %before)
}}
""")


@pytest.mark.parametrize(
    ("between", "hidden"),
    [
        ("  %after = bf16[64,64]{1,0} fusion(%x, %x), kind=kOutput, calls=%product", True),
        ("  %after = bf16[64,128]{1,0} bitcast(%x)", False),
    ],
)
def test_an_asynchronous_collective_counts_once_and_is_exposed_without_work_beside(
    between: str, hidden: bool
):
    module = _asynchronous(between)
    (found,) = collectives(module, MESH)
    assert (found.kind, found.axes, found.bytes) == ("all-reduce", ("tensor",), 64 * 128 * 2)
    assert found.asynchronous is hidden
    product = 2 * 64 * 64 * 128
    computed = kernels(module)
    assert sum(k.times * k.flops for k in computed) == product * (1 + hidden)
    assert sum(k.times * k.bytes for k in computed) == (1 + hidden) * (2 * 64 * 128 + 64 * 64) * 2


@pytest.mark.parametrize(
    ("between", "hidden"),
    [
        ("  %after = bf16[64,64]{1,0} fusion(%x, %x), kind=kOutput, calls=%product", True),
        ("  %after = bf16[64,128]{1,0} bitcast(%x)", False),
    ],
)
def test_a_start_is_exposed_without_work_before_its_done(between: str, hidden: bool):
    module = hlo.parse(f"""\
%product (l: bf16[64,128], r: bf16[64,128]) -> bf16[64,64] {{
  %l = bf16[64,128]{{1,0}} parameter(0)
  %r = bf16[64,128]{{1,0}} parameter(1)
  ROOT %d = bf16[64,64]{{1,0}} convolution(%l, %r), dim_labels=bf_oi->bf
}}

ENTRY %main (x: bf16[64,128]) -> (bf16[128,128], bf16[64,64]) {{
  %x = bf16[64,128]{{1,0}} parameter(0)
  %start = (bf16[64,128]{{1,0}}, bf16[128,128]{{1,0}}) all-gather-start(%x), channel_id=1, \
replica_groups=[2,2]<=[4], dimensions={{0}}
{between}
  %done = bf16[128,128]{{1,0}} all-gather-done(%start)
  %late = bf16[64,64]{{1,0}} fusion(%x, %x), kind=kOutput, calls=%product
  ROOT %t = (bf16[128,128]{{1,0}}, bf16[64,64]{{1,0}}) tuple(%done, %late)
}}
""")
    (found,) = collectives(module, MESH)
    assert (found.kind, found.bytes) == ("all-gather", 128 * 128 * 2)
    assert found.asynchronous is hidden


def test_a_collective_without_groups_is_one_of_all_partitions():
    module = hlo.parse("""\
ENTRY %main (x: f32[64,128]) -> f32[256,128] {
  %x = f32[64,128]{1,0} parameter(0)
  ROOT %g = f32[256,128]{1,0} all-gather(%x), channel_id=1, replica_groups={}, dimensions={0}
}
""")
    (found,) = collectives(module, MESH)
    assert (found.group, found.axes) == ((0, 1, 2, 3), ("fsdp", "tensor"))
    assert found.bytes == 256 * 128 * 4


def test_what_the_sparse_core_gathers_moves_only_what_it_takes():
    module = hlo.parse("""\
%rows (table: bf16[1000,128], at: s32[16]) -> bf16[16,128] {
  %table = bf16[1000,128]{1,0} parameter(0)
  %at = s32[16]{0} parameter(1)
  ROOT %g = bf16[16,128]{1,0} gather(%table, %at), offset_dims={1}, collapsed_slice_dims={0}
}

%async_computation (table: bf16[1000,128], at: s32[16]) -> bf16[16,128] {
  %table = bf16[1000,128]{1,0} parameter(0)
  %at = s32[16]{0} parameter(1)
  ROOT %f = bf16[16,128]{1,0} fusion(%table, %at), kind=kCustom, calls=%rows
}, execution_thread="sparsecore"

ENTRY %main (table: bf16[1000,128], at: s32[16]) -> bf16[16,128] {
  %table = bf16[1000,128]{1,0} parameter(0)
  %at = s32[16]{0} parameter(1)
  %start = ((bf16[1000,128]{1,0}, s32[16]{0}), bf16[16,128]{1,0}, u32[]{:S(8)}) \
async-start(%table, %at), calls=%async_computation
  %other = bf16[1000,128]{1,0} fusion(%table), kind=kLoop, calls=%twice
  ROOT %done = bf16[16,128]{1,0} async-done(%start)
}

%twice (table: bf16[1000,128]) -> bf16[1000,128] {
  %table = bf16[1000,128]{1,0} parameter(0)
  ROOT %d = bf16[1000,128]{1,0} add(%table, %table)
}
""")
    gathered, other = sorted(kernels(module), key=lambda kernel: kernel.bytes)
    assert (gathered.bytes, gathered.hidden) == (2 * 16 * 128 * 2 + 16 * 4, True)
    assert (other.bytes, other.hidden) == (2 * 1000 * 128 * 2, False)


def test_loops_that_end_by_data_run_as_often_as_is_told():
    module = dataclasses.replace(_module("NE"), unbounded=16)
    assert _trips(module) == 16
    assert _trips(dataclasses.replace(_module("LT"), unbounded=16)) == 7


@pytest.mark.parametrize(
    ("start", "moved"),
    [
        # To on-chip memory, from there, within HBM; a part of an array.
        ("(f32[8,4]{1,0:S(1)}, f32[8,4]{1,0}, u32[]) copy-start(%x)", 8 * 4 * 4),
        ("(f32[8,4]{1,0}, f32[8,4]{1,0:S(1)}, u32[]) copy-start(%y)", 8 * 4 * 4),
        ("(f32[8,4]{1,0}, f32[8,4]{1,0}, u32[]) copy-start(%x)", 2 * 8 * 4 * 4),
        ("((f32[8,4]{1,0}), f32[2,4]{1,0:S(1)}, u32[]) slice-start(%x)", 2 * 4 * 4),
    ],
)
def test_a_transfer_moves_what_it_reads_and_what_it_writes_in_hbm_at_its_start_alone(
    start: str, moved: int
):
    done = "slice-done" if "slice" in start else "copy-done"
    module = hlo.parse(f"""\
ENTRY %main (x: f32[8,4], y: f32[8,4]) -> f32[] {{
  %x = f32[8,4]{{1,0}} parameter(0)
  %y = f32[8,4]{{1,0:S(1)}} parameter(1)
  %start = {start}
  ROOT %done = f32[8,4]{{1,0}} {done}(%start)
}}
""")
    (kernel,) = kernels(module)
    assert kernel.bytes == moved
