import os
from pathlib import Path

import pytest

from tests.end_to_end import corpus
from tests.quick_compiler import quick_compiler, quickly  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a token cache and a compilation cache that all runs of a test process share."""
    folder = tmp_path_factory.mktemp("work")
    os.environ["ARCHOBJ_TEST_WORK"] = str(folder)
    corpus.write(folder / "corpus")
    return folder


@pytest.fixture(scope="session")
def undisturbed(work: Path) -> Path:
    """The folder of a run of 12 steps in this process that nothing disturbed."""
    from tests.end_to_end import runs

    with quickly():  # a fixture of the session comes before those of modules
        assert runs.here(work / "undisturbed") == 0
    return work / "undisturbed"
