"""Which checkpoints count: those that were written to their end."""

import pytest
from etils import epath
from orbax.checkpoint._src.path import gcs_utils

from archobj_jax.errors import UserError
from archobj_jax.training import restoring


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A run whose checkpoint 10 is committed as in a bucket, and whose 20 was cut off."""
    monkeypatch.setattr(gcs_utils, "is_gcs_path", lambda _: True)
    for step in (10, 20):
        (tmp_path / "checkpoints" / f"checkpoint_{step}" / "state").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint_10" / "commit_success.txt").write_text("")
    return tmp_path


def test_what_was_cut_off_in_a_bucket_is_no_checkpoint(bucket):
    assert restoring.committed_steps(epath.Path(bucket / "checkpoints")) == [10]
    assert restoring.find_checkpoint(str(bucket)).name == "checkpoint_10"


def test_a_run_whose_only_checkpoint_was_cut_off_has_none(bucket):
    (bucket / "checkpoints" / "checkpoint_10" / "commit_success.txt").unlink()
    assert not restoring.has_checkpoint(str(bucket))
    with pytest.raises(UserError, match="holds no checkpoint"):
        restoring.find_checkpoint(str(bucket))


def test_one_that_was_cut_off_is_refused_by_name_and_the_committed_are_named(bucket):
    with pytest.raises(UserError, match=r"not written to its end.*lie checkpoint_10\."):
        restoring.find_checkpoint(str(bucket / "checkpoints" / "checkpoint_20"))


def test_on_a_file_system_the_folders_name_is_the_commit(tmp_path):
    for name in ("checkpoint_10", "checkpoint_9", "checkpoint_20.orbax-checkpoint-tmp-1"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert restoring.committed_steps(epath.Path(tmp_path / "checkpoints")) == [9, 10]
    assert restoring.has_checkpoint(str(tmp_path))
