"""Each mistake is one `UserError`: where, what was expected, and the nearest valid name."""

import re

import pytest

from archobj_jax import config
from archobj_jax.errors import UserError
from tests.config import models

HEAD = "from __gin__ import dynamic_registration\nfrom tests.config import models\n"
EXPERIMENT = "tests/config/experiment.gin"


def message(*bindings: str, files=(EXPERIMENT,)) -> str:
    with pytest.raises(UserError) as caught:  # noqa: PT012 (either may find it)
        config.parse(list(files), list(bindings), functions=[models.train])
        config.call(models.train)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("MODLE_DIR=x", "no gin file defines or reads 'MODLE_DIR'.* Did you mean 'MODEL_DIR'"),
        ("train.total_step=3", "'train' has no parameter 'total_step'. Did you mean 'total_steps'"),
        ("trian.total_steps=3", "'trian' is not known to the gin files. Did you mean 'train'"),
        ("models.trian.total_steps=3", "'models.trian' is not known.* Did you mean 'models.train'"),
        ("trian/Data.task=x", "nothing opens the scope 'trian' .* Did you mean 'train'"),
        ("OBJECTIVE=@models.SpanCorupt()", "'models.SpanCorupt' is not known.*'models.SpanCorrup"),
        ("OBJECTIVE=@models.FullLm(", "not closed"),
        ("train.sizes=[1, 2", "not closed"),
        ("Optimizer.kind=adamw", "train does not use models.Optimizer.kind"),
        ("STEPS", "expected --gin.NAME=VALUE"),
        ("STEPS=", "has no value"),
        ("a//b=1", "expected the name of a macro"),
    ],
)
def test_flags(flag: str, expected: str):
    found = message("MODEL_DIR=x", flag)
    assert found.startswith(f"--gin.{flag}")
    assert re.search(expected, found), found


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("STEPS=1OO", r"run.gin line 14: models.train.total_steps is '1OO' \(--gin.STEPS=1OO\); "),
        ("STEPS=True", "total_steps is True .* expected int"),
        ("STEPS=1.5", "total_steps is 1.5 .* expected int"),
        ("MODEL_DIR=3", "model_dir is 3 .* expected str. Put quotes"),
        ("Data.shuffle=false", "shuffle is 'false'; expected bool. Write True or False"),
        ("train.sizes=[1, 'a']", r"sizes is \[1, 'a'\]; expected Sequence\[int\]"),
        ("Data.lengths={'inputs': '3'}", r"expected Mapping\[str, int\]"),
        ("Optimizer.kind=adam", "expected Literal.* Did you mean 'adamw'"),
        ("Optimizer.learning_rate=fast", r"expected float \| None"),
        ("OBJECTIVE=@models.Optimizer()", r"objective is @Optimizer\(\) .* expected Objective"),
        ("OBJECTIVE=@models.FullLm", r"objective is @FullLm .* Write @FullLm\(\) to pass what"),
        ("STEPS=%STEPS", "total_steps stands for itself: %STEPS = %STEPS"),
    ],
)
def test_values_of_the_wrong_type(flag: str, expected: str):
    assert re.search(expected, found := message("MODEL_DIR=x", flag)), found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("models.train.total_stps = 3", "line 3: 'models.train' has no parameter 'total_stps'"),
        ("models.train:\n  total_stps = 3", "line 4: .* Did you mean 'total_steps'"),
        ("models.train:\n  total_steps 3", "line 4: Expected '='.*`total_steps 3`"),
        ("models.train.sizes = $", "line 3: Unable to parse value. in `models.train.sizes"),
        ("models.train.sizes = (1,", "not closed"),
        ("model.train.sizes = 3", "line 3: .*no import provides 'model'. Did you mean 'models.tr"),
        ("\nmodels.train.optimizer = @models.Optimzer()", "line 4: 'models' has no 'Optimzer'"),
        ("models.NOT_CALLABLE.x = 3", "line 3: 'models.NOT_CALLABLE' is not a function or class"),
        ("import tests.config.modls", "line 3: there is no module 'tests.config.modls'. Did you"),
        ("import numpi", "line 3: there is no module 'numpi'. Did you mean 'numpy'"),
        ("include 'tests/config/rn.gin'", "line 3: no gin file .*mean 'tests/config/run.gin'"),
        ("evl/models.Data.batch_size = 3", "line 3: nothing opens the scope 'evl' .*mean 'eval'"),
    ],
)
def test_gin_files(body: str, expected: str, tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text(f"{HEAD}{body}\n")
    found = message("MODEL_DIR=x", files=[EXPERIMENT, str(path)])
    assert found.startswith(str(path))
    assert re.search(expected, found), found


def test_a_misspelt_macro_is_told_before_anything_is_imported(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text(f"{HEAD}import tests.config.modls\n")
    files = [EXPERIMENT, str(path)]
    assert message("MODLE_DIR=x", files=files).startswith("--gin.MODLE_DIR=x: no gin file defines")
    assert "there is no module 'tests.config.modls'" in message("MODEL_DIR=x", files=files)


def test_a_file_that_includes_itself(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text(f"include '{path}'\n")
    assert re.search("line 1: .* includes itself", message(files=[str(path)]))


def test_a_file_that_is_not_there():
    found = message(files=["tests/config/experimnt.gin"])
    assert found.startswith("--gin_file: no gin file 'tests/config/experimnt.gin' in ")
    assert "Did you mean 'tests/config/experiment.gin'" in found


def test_what_is_required_is_asked_for_by_the_flag_that_sets_it(tmp_path):
    assert re.search(
        r"MODEL_DIR is required: give --gin.MODEL_DIR=… \(left open in tests/config/run.gin line 5",
        message(),
    )
    path = tmp_path / "mine.gin"
    path.write_text(f"{HEAD}TASK = %gin.REQUIRED\nmodels.train.sizes = %SIZES\nSIZE = (1,)\n")
    found = message(files=[EXPERIMENT, str(path)])
    assert re.search(r"MODEL_DIR, .* are required: give .*--gin.TASK=…", found), found
    assert re.search(r"line 4 but set nowhere. Did you mean 'SIZE'", found), found


def test_a_parameter_that_nothing_binds_is_required():
    found = message("models.train.model_dir=x", files=[])
    assert "models.train.data, models.train.objective are required" in found
