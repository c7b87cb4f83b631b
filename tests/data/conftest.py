from collections.abc import Iterator

import pytest
import seqio

import tasks.pretraining  # noqa: F401  # registers what must outlive each test


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Forgets the tasks and mixtures that a test registers."""
    kept = {
        registry: set(registry.names()) for registry in (seqio.TaskRegistry, seqio.MixtureRegistry)
    }
    yield
    for registry, names in kept.items():
        for name in set(registry.names()) - names:
            registry.remove(name)
