"""`python -m archobj_jax` is `archobj`."""

from archobj_jax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
