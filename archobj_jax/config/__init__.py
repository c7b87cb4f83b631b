"""The gin edge: files and flags in, calls of plain library functions out. Nothing else imports gin.

    from archobj_jax import config

    config.parse(["t5x_configs/experiments/tiny/cd_flm.gin"], ["MODEL_DIR=runs/first"])
    config.call(train)

Gin's configuration is one for the process: `parse` replaces the one before. What a user got wrong
is one `UserError` that names the file and line or the flag, what was expected and the nearest name.
"""

from archobj_jax.config.run import bound_config_str, call, operative_config_str, parse

__all__ = ["bound_config_str", "call", "operative_config_str", "parse"]
