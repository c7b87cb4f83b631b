"""Fixtures of studies."""

import pytest

from archobj_jax.study.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))
