"""Cloud TPU's accelerator types: which there are, and what their shape is."""

import pytest

from archobj_jax.errors import UserError
from archobj_jax.partitioning.slice_sizes import check_type, topology_of_type


@pytest.mark.parametrize(
    ("name", "topology"),
    [
        ("v4-8", "v4:2x2x1"),
        ("v4-128", "v4:4x4x4"),
        ("v4-1024", "v4:8x8x8"),
        ("v5p-256", "v5p:4x4x8"),
        ("v5litepod-16", "v5e:4x4"),
        ("v6e-256", "v6e:16x16"),
        ("v4-100", None),
        ("v5p-384", None),
        ("v4:4x4x4", None),
        ("v9-8", None),
    ],
)
def test_the_topology_of_a_type(name, topology):
    assert topology_of_type(name) == topology


@pytest.mark.parametrize("name", ["v4-8", "v4-4096", "v5p-384", "v5p-12288", "v6e-1", "v7x-99", ""])
def test_types_that_there_are_or_that_are_not_known_here(name):
    check_type("accelerator_type", name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("v4-100", "TensorCores, two a chip.*v4-64 and v4-128"),
        ("v5p-255", "v5p-128 and v5p-256"),
        ("v5p-400", "v5p-384 and v5p-512"),
        ("v4-4", "v4-8"),
        ("v6e-100", "of chips.*v6e-64 and v6e-128"),
        ("v6e-512", "v6e-256"),
    ],
)
def test_sizes_that_there_are_not_name_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"--tpu_type={name}: there is no such slice.*{nearest}"):
        check_type("tpu_type", name)


@pytest.mark.parametrize("number", [16, 100])
def test_a_v5e_is_asked_for_by_the_word_that_gcloud_and_xpk_take(number):
    assert topology_of_type("v5e-16") == topology_of_type("v5litepod-16")
    check_type("tpu_type", "v5litepod-16")
    with pytest.raises(
        UserError, match=f"--tpu_type=v5e-{number}: .* called v5litepod-{number} by"
    ):
        check_type("tpu_type", f"v5e-{number}")


def test_a_topology_is_no_type_and_its_type_is_named():
    with pytest.raises(UserError, match="expected an accelerator type, v5litepod-16"):
        check_type("accelerator_type", "v5e:4x4")
    with pytest.raises(UserError, match=r"expected an accelerator type\."):
        check_type("accelerator_type", "v4:3x3x3")
