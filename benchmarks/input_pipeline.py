"""Positions a CPU-second from the cache on disk to the batches that a training run asks for.

    python -m benchmarks.input_pipeline

Reads a cache of 1.3 billion tokens, the embedded corpus many times over, and takes batches of 128
rows as training does: by `loader.train_batches`, shuffled. For each objective: positions (padding
included) and tokens for each second of CPU time of this process and its workers, and the share of
padding; then with worker processes, in wall time too. The reference, in turn with them, is what T5X
trains on, from memory (`seqio_reference`). Figures are medians over repetitions, as are ratios. The
last line is one JSON object.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archobj_jax.objectives import DecoderLayout, EncoderDecoderLayout, Layout

TOKENS, LINKS = 40_000_000, 32  # of one shard, and how many times it is there
ROWS = 128
LEAST = 32  # batches; 8 are made before they are asked for
LENGTH = 626
WARM = 16  # after 8 batches of 128 rows as many blocks are open as will be

SEQIO_FIGURES = {"FLM": 1.15e6, "PLM": 1.15e6, "MLM": 0.84e6}
"""Positions a CPU-second of SeqIO's pipeline with T5's preprocessors from memory, two cores."""

Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One objective in one layout."""

    name: str
    task: str
    lengths: Mapping[str, int]
    layout: Layout


_DECODER, _ENCODER_DECODER = DecoderLayout(), EncoderDecoderLayout()
_PAIR, _SPANS = {"inputs": LENGTH, "targets": LENGTH}, {"inputs": 512, "targets": 114}
CASES = (
    Case("FLM decoder", "repeated_full_lm", {"targets": LENGTH}, _DECODER),
    Case("PLM decoder", "repeated_prefix_lm", {"targets": LENGTH}, _DECODER),
    Case("PLM encoder-decoder", "repeated_prefix_lm", _PAIR, _ENCODER_DECODER),
    Case("MLM decoder", "repeated_span_corruption", _SPANS, _DECODER),
    Case("MLM encoder-decoder", "repeated_span_corruption", _SPANS, _ENCODER_DECODER),
)


@dataclass(frozen=True)
class Measured:
    """What taking batches took."""

    positions: int
    tokens: int
    cpu_seconds: float
    wall_seconds: float

    @property
    def rate(self) -> float:
        """Positions a CPU-second."""
        return self.positions / self.cpu_seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=128, help="measured at a time")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    flags = parser.parse_args()
    if flags.batches < LEAST:
        parser.error(f"--batches={flags.batches}: at least {LEAST}, since some are made ahead")
    with tempfile.TemporaryDirectory() as folder:
        documents = _make_cache(Path(folder))
        takes = _takes(folder, documents, flags.workers, flags.batches)
        runs: dict[str, list[Measured]] = {name: [] for name in takes}
        for _ in range(flags.repetitions):
            for name, take in takes.items():
                runs[name].append(take())
                print(name, round(runs[name][-1].rate), flush=True)
    print(json.dumps(_figures(runs)))


def _make_cache(folder: Path) -> list[np.ndarray]:
    """Makes the large cache in `folder`; returns the documents of the embedded corpus."""
    # Here, since worker processes import this file and need no TensorFlow.
    import seqio

    import tasks.pretraining
    from archobj_jax.data import cache
    from archobj_jax.data.rows import TokenStream
    from benchmarks import linked_cache

    task = seqio.get_mixture_or_task("embedded_full_lm")
    opened = cache.ensure(task, linked_cache.SPLIT, folder, workers=0)
    stream = TokenStream(opened, opened.ids.eos_id)
    ends = np.flatnonzero(stream.read(0, len(stream)) == opened.ids.eos_id)
    lengths = np.diff(ends, prepend=-1) - 1
    bare = TokenStream(opened, None)
    tokens = bare.read(0, len(bare))
    times = -(-TOKENS // len(tokens))
    repeated = linked_cache.Tokenised(np.tile(tokens, times), np.tile(lengths, times))
    linked_cache.register(
        "repeated", tasks.pretraining.vocabularies.embedded_vocabulary(), repeated
    )
    linked_cache.make("repeated", folder, LINKS)
    return np.split(tokens, np.cumsum(lengths)[:-1])


def _takes(
    folder: str, documents: Sequence[np.ndarray], workers: Sequence[int], batches: int
) -> dict[str, Callable[[], Measured]]:
    """What is measured, by name."""
    from archobj_jax.data import loader
    from benchmarks import seqio_reference

    def ours(case: Case, workers: int) -> Callable[[], Measured]:
        config = loader.DatasetConfig(
            case.task, case.lengths, "train", ROWS, cache_dir=folder, workers=workers
        )

        def take() -> Measured:
            with loader.train_batches(config, case.layout, start_step=0) as taken:
                return _measured(taken, batches)

        return take

    def theirs(pack: bool) -> Callable[[], Measured]:
        return lambda: _measured(
            seqio_reference.batches(documents, LENGTH, ROWS, pack=pack), batches
        )

    takes = {case.name: ours(case, 0) for case in CASES}
    takes |= {f"{CASES[0].name}, {count} workers": ours(CASES[0], count) for count in workers}
    return takes | {f"FLM by tf.data, pack={pack}": theirs(pack) for pack in (True, False)}


def _measured(taken: Iterator[Batch], batches: int) -> Measured:
    for _ in range(WARM):
        next(taken)
    positions = tokens = 0
    cpu, wall = _cpu_seconds(), time.perf_counter()
    for _ in range(batches):
        batch = next(taken)
        for name in ("encoder_input_tokens", "decoder_target_tokens"):
            if name in batch:
                # Without packing SeqIO has no segment ids; no token is 0.
                positions += batch[name].size
                tokens += int(np.count_nonzero(batch[name]))
    return Measured(positions, tokens, _cpu_seconds() - cpu, time.perf_counter() - wall)


def _cpu_seconds() -> float:
    """CPU time of this process and of the worker processes that it has now."""
    ticks = 0
    for child in multiprocessing.active_children():
        with contextlib.suppress(FileNotFoundError):
            stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(stat[11]) + int(stat[12])  # utime and stime, proc(5)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _figures(runs: Mapping[str, Sequence[Measured]]) -> dict:
    reference = runs["FLM by tf.data, pack=True"]
    figures = {}
    for name, measured in runs.items():
        pairs = zip(measured, reference, strict=True)
        figures[name] = {
            "positions_per_cpu_second": round(statistics.median(m.rate for m in measured)),
            "tokens_per_cpu_second": round(
                statistics.median(m.tokens / m.cpu_seconds for m in measured)
            ),
            "positions_per_second": round(
                statistics.median(m.positions / m.wall_seconds for m in measured)
            ),
            "cores_busy": round(
                statistics.median(m.cpu_seconds / m.wall_seconds for m in measured), 2
            ),
            "padding": round(
                1 - sum(m.tokens for m in measured) / sum(m.positions for m in measured), 5
            ),
            "runs": [round(m.rate) for m in measured],
            "over_reference": round(statistics.median(m.rate / r.rate for m, r in pairs), 2),
        }
        if name[:3] in SEQIO_FIGURES and "tf.data" not in name:
            rate = figures[name]["positions_per_cpu_second"]
            figures[name]["over_seqio_figure"] = round(rate / SEQIO_FIGURES[name[:3]], 2)
    return {
        "benchmark": "input_pipeline",
        "what": f"cache on disk to batches of {ROWS} rows of {LENGTH}, shuffled",
        "on": f"{os.cpu_count()} cores, a cache of {TOKENS * LINKS / 1e9:.1f}e9 tokens",
        "reference": "FLM by tf.data from memory, T5's steps and SeqIO's packed converter",
        "figures": figures,
        "ratio": {name: figure["over_reference"] for name, figure in figures.items()},
    }


if __name__ == "__main__":
    main()
