"""`python -m launch.host train …`: `archobj train …` as one of the processes of `launch/local`."""

import os
import sys

import jax

from archobj_jax import cli


def main() -> int:
    """Joins the other processes, then runs the command; returns its exit status."""
    # Processes on CPUs exchange arrays by gloo; other platforms have their own ways.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        os.environ["JAX_COORDINATOR_ADDRESS"],
        int(os.environ["JAX_NUM_PROCESSES"]),
        int(os.environ["JAX_PROCESS_ID"]),
    )
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
