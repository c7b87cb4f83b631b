from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class FakeVocabulary:
    vocab_size: int = 4196
    extra_ids: int = 100
    eos_id: int | None = 1


@pytest.fixture(scope="session")
def vocabulary():
    return FakeVocabulary()


@pytest.fixture(scope="session")
def make_vocabulary():
    return FakeVocabulary
