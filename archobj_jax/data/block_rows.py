"""Rows of a large corpus in an order that is random and yet read in large pieces.

A row is a kilobyte. To read rows of hundreds of gigabytes one by one at random is to ask an object
store as many times as there are rows, for ten times the bytes. So an epoch is shuffled in blocks:

- The rows of an epoch are cut into *blocks* of about 65,536 tokens that lie together. Blocks are
  permuted over the whole corpus, and so are the rows within each. (Documents are permuted within
  each shard when they are cached, so that those of a block were no neighbours in the source.)
- The blocks, in that order, are dealt out to *lanes*, as many as a batch has rows or a multiple;
  row i of the epoch is the next of lane i mod lanes. Rows of a batch come from as many blocks, and
  a host, which always has the same rows of a batch, reads few blocks that others read too (lanes
  share a block where one ends and the next begins).
- Lanes begin and end inside of blocks, each at another place, so that blocks are finished and
  opened one by one and not all at once.

Each row occurs once in an epoch.
"""

import math
from dataclasses import dataclass
from itertools import count

import numpy as np

from archobj_jax.data import seeds
from archobj_jax.data.held import Held
from archobj_jax.data.rows import TokenStream, offset
from archobj_jax.objectives import rng_for

SMALL = 1 << 24
"""Tokens of a corpus that is held in memory whole and shuffled row by row: blocks gain nothing."""

BLOCK_TOKENS = 1 << 16
"""A block has at least so many: 130 kB on disk, of which a record too much is read."""

LANES = 1024
"""At least so many blocks are open at a time: 128 MB."""

ORDER = f"blocks of {BLOCK_TOKENS} in {LANES} lanes"
"""Names the order, for fingerprints of the data; change it with the order."""

_SPARE_BLOCKS = 64  # finished, and in a batch that is still being made


@dataclass(frozen=True)
class Taken:
    """How many rows a batch has of something, on average.

    Attributes:
      batch: a global batch.
      process: what one process makes of it.
    """

    batch: float
    process: float


def _lanes(batch_rows: float) -> tuple[int, int]:
    """Returns after how many batches it is the same lanes' turn again, and the number of lanes.

    In a mixture a batch has no whole number of rows of each task; over so many batches it nearly
    has, so that lanes hardly wander from host to host.
    """
    least = math.ceil(LANES / batch_rows)
    wholes = {n: max(round(n * batch_rows), 1) for n in range(least, least + 16)}
    rounds = min(wholes, key=lambda n: (round(abs(wholes[n] - n * batch_rows) / n, 9), n))
    return rounds, wholes[rounds]


class BlockRows:
    """Shuffled windows of a token stream, addressed by epoch and index; see the module.

    Windows are those of `Rows`. `len` is rows an epoch.

    Args:
      stream: where the tokens come from.
      window: tokens a row consumes.
      seed: draws the windows' offsets and the order, anew for each epoch.
      taken: how many rows of it are taken.
      dtype: holds every token.
    """

    def __init__(
        self, stream: TokenStream, window: int, *, seed: int, taken: Taken, dtype: np.dtype
    ):
        self._stream, self._window, self._seed, self._dtype = stream, window, seed, dtype
        rounds, self._lanes = _lanes(taken.batch)
        self._turns, self._longer = divmod(len(self), self._lanes)
        # Coprime, so that lanes begin at all places of a block in equal shares.
        least = -(-BLOCK_TOKENS // window)
        self._rows = next(n for n in count(least) if math.gcd(n, self._turns or 1) == 1)
        self._most = math.ceil(taken.process * rounds) + _SPARE_BLOCKS
        self._open()

    def __len__(self) -> int:
        return len(self._stream) // self._window

    def read(self, epoch: int, index: int) -> np.ndarray:
        """Returns integer [window]: row `index` of `epoch`, a view.

        Raises:
          MachineError: a record is damaged.
        """
        block, within = self._place(epoch, index)
        return self._blocks.get((epoch, block), lambda: self._load(epoch, block))[within]

    def start(self, epoch: int, index: int) -> int:
        """Returns the token of the stream, a ring, with which row `index` of `epoch` begins."""
        block, within = self._place(epoch, index)
        return self._first(epoch) + (block * self._rows + within) * self._window

    def _place(self, epoch: int, index: int) -> tuple[int, int]:
        """Returns the block that row `index` of `epoch` is in, and which of its rows it is."""
        turn, lane = divmod(index, self._lanes)
        place = lane * self._turns + min(lane, self._longer) + turn
        number, within = divmod(place, self._rows)
        blocks = self._orders.get(epoch, lambda: self._order(epoch))
        # What is left after the last whole block stays the last block.
        block = int(blocks[number]) if number < len(blocks) else number
        order = self._within.get((epoch, block), lambda: self._order_within(epoch, block))
        return block, int(order[within])

    def _load(self, epoch: int, block: int) -> np.ndarray:
        """Returns integer [rows, window]: the rows of a block."""
        first, rows = block * self._rows, self._block_rows(block)
        tokens = self._stream.load(self._first(epoch) + first * self._window, rows * self._window)
        return tokens.reshape(rows, self._window).astype(self._dtype)

    def _first(self, epoch: int) -> int:
        return offset(seeds.named(self._seed, "offset"), epoch, self._window)

    def _block_rows(self, block: int) -> int:
        return min(self._rows, len(self) - block * self._rows)

    def _order_within(self, epoch: int, block: int) -> np.ndarray:
        """Returns int32 [rows of the block], in which order they are given."""
        rng = rng_for(seeds.named(self._seed, f"block {epoch}"), block)
        return rng.permutation(self._block_rows(block)).astype(np.int32)

    def _order(self, epoch: int) -> np.ndarray:
        """Returns uint32 [whole blocks], the number of each in the stream."""
        blocks = np.arange(len(self) // self._rows, dtype=np.uint32)
        rng_for(seeds.named(self._seed, "blocks"), epoch).shuffle(blocks)
        return blocks

    def _open(self) -> None:
        self._blocks: Held[tuple[int, int], np.ndarray] = Held(self._most)
        self._within: Held[tuple[int, int], np.ndarray] = Held(self._most)
        self._orders: Held[int, np.ndarray] = Held(2)  # an epoch begins before the last one ends

    def __getstate__(self) -> dict[str, object]:
        opened = ("_blocks", "_within", "_orders")
        return {key: value for key, value in self.__dict__.items() if key not in opened}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()
