"""The EleutherAI harness (extra `eval`): whether it is there, and its own command with our model.

    python -m archobj_jax.evaluation.lm_eval --model archobj_jax \\
      --model_args checkpoint=runs/demo --tasks my_task --include_path my_tasks

is `lm_eval` with the same arguments. The harness does not look for models in other packages, so
this tells it of ours and calls it.
"""

import importlib.util
import multiprocessing
import os
import sys

from archobj_jax.errors import MACHINE_ERROR, USER_ERROR, MachineError, UserError

MODEL = "archobj_jax"
"""What `--model` calls ours."""


def require() -> None:
    """Raises UserError if the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "the EleutherAI harness (lm-eval) is not installed; it is an extra: pip install "
            "'archobj_jax[eval]'"
        )


def register() -> None:
    """Makes our model known to the harness, beside its own, by the name `MODEL`.

    Raises:
      UserError: the harness is not installed.
    """
    require()
    import lm_eval.models  # fills the registry, which it does only while that is empty
    from lm_eval.api.registry import model_registry

    del lm_eval
    if MODEL not in model_registry:
        model_registry.register(MODEL, target="archobj_jax.evaluation.harness:HarnessLM")


def main() -> int:
    """Runs the harness's command on `sys.argv`; returns the exit status, as `archobj` has it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what TensorFlow says as it is imported
    sys.path.append(os.getcwd())  # a user's own tasks, by which checkpoints name the vocabulary
    # The harness's workers (for intervals) must not be forked: JAX has threads.
    multiprocessing.set_start_method("spawn", force=True)
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except UserError as error:
        print(f"lm_eval: error: {error}", file=sys.stderr)
        return USER_ERROR
    except MachineError as error:
        print(f"lm_eval: error: {error}", file=sys.stderr)
        return MACHINE_ERROR
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
