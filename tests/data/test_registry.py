"""A module of the user's that registers tasks: what is said when it fails."""

import importlib

import pytest

from archobj_jax.data import registry
from archobj_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import seqio\n\nraise ValueError('twice')\n", "line 3: ValueError: twice"),
        ("def f(\n", "line 1: SyntaxError: "),
        ("import os\nos.path.nonsense()\n", "line 2: AttributeError: "),
        ("import no_such_package\n", "needs 'no_such_package', which is not installed"),
    ],
)
def test_a_fault_in_it_is_told_with_its_place(tmp_path, monkeypatch, text, said):
    (tmp_path / "faulty_tasks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(UserError) as error:
        registry.find("some_task", "faulty_tasks")
    assert "module 'faulty_tasks' (MIXTURE_OR_TASK_MODULE)" in str(error.value)
    assert said in str(error.value)
    if "line" in said:
        assert f"at {tmp_path / 'faulty_tasks.py'}, line" in str(error.value)
