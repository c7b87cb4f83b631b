"""`python -m tests.end_to_end.process INDEX COUNT PORT train …`: one process of several."""

import sys

import jax

from archobj_jax import cli


def main() -> int:
    """Joins the others on the loopback interface, then runs the command."""
    index, count, port, *arguments = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
