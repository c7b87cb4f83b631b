"""Batches onto the mesh: which rows a process makes, and its rows as global arrays."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding

from archobj_jax.errors import UserError
from archobj_jax.objectives import Layout, Lengths
from archobj_jax.partitioning.partitioner import check_lengths, local_rows, row_sharding
from archobj_jax.partitioning.rules import LogicalAxisRules


@dataclasses.dataclass(frozen=True)
class Placement:
    """How batches of one size lie on the mesh.

    Attributes:
      batch_size: rows of the global batch.
      rules: rows lie on the mesh by them.
      sharding: of every array [B, L].
      rows: which rows of the global batch this process makes; None on a mesh without devices.
    """

    batch_size: int
    rules: LogicalAxisRules
    sharding: NamedSharding
    rows: np.ndarray | None

    @classmethod
    def of(cls, rules: LogicalAxisRules, batch_size: int) -> "Placement":
        """Rows laid out by the rules.

        Raises:
          UserError: the batch does not divide over the mesh.
        """
        sharding = row_sharding(rules, batch_size)
        abstract = isinstance(rules.mesh, AbstractMesh)
        rows = None if abstract else local_rows(sharding, batch_size)
        return cls(batch_size, rules, sharding, rows)

    def check_microbatches(self, count: int) -> None:
        """Checks that the batch falls into `count` parts that divide over the mesh too.

        Raises:
          UserError: it does not.
        """
        if count < 1 or self.batch_size % count:
            raise UserError(
                f"Trainer.num_microbatches = {count} does not divide "
                f"BATCH_SIZE = {self.batch_size}."
            )
        part, shards = self.batch_size // count, self.rules.shards("batch")
        if part % shards:
            raise UserError(
                f"Trainer.num_microbatches = {count} leaves {part} rows to a microbatch, which do "
                f"not divide over the {shards} devices that hold rows; use fewer microbatches."
            )

    def check_lengths(self, layout: Layout, lengths: Lengths) -> None:
        """Checks that the arrays of `layout` divide over the mesh by their length too.

        Raises:
          UserError: they do not.
        """
        spec = layout.spec(lengths)
        check_lengths(self.rules, {name: shape[0] for name, (shape, _) in spec.items()})

    def put(self, rows: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process's rows [rows, L] as parts of global arrays [B, L]."""
        return {
            name: jax.make_array_from_process_local_data(
                self.sharding, value, (self.batch_size, *value.shape[1:])
            )
            for name, value in rows.items()
        }

    def abstract(self, layout: Layout, lengths: Lengths) -> dict[str, jax.ShapeDtypeStruct]:
        """The global arrays of a batch, without values.

        Raises:
          UserError: the lengths do not divide over the mesh.
        """
        self.check_lengths(layout, lengths)
        return {
            name: jax.ShapeDtypeStruct((self.batch_size, *shape), dtype, sharding=self.sharding)
            for name, (shape, dtype) in layout.spec(lengths).items()
        }
