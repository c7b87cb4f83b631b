"""Reading a corpus of C4's size: 365 million documents, 170 billion tokens.

    python -m benchmarks.c4_scale

Makes one shard of C4's 1,024, of 356,445 documents whose lengths are log-normal with a mean of 466
tokens, links it 1,024 times into a cache of the whole size, and trains on that: batches of 2,048
rows of 626 tokens from `loader.train_batches`, once all of them (one host), once the rows that the
first of 128 hosts needs, each in a process of its own. Tells the seconds to the first batch,
memory, and what was asked of the file system by its own count (/proc/self/io): bytes read for each
byte used, and the size of a read. The shuffle is measured by the documents that rows begin in,
against documents drawn uniformly. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHARDS, DOCUMENTS = 1024, 356_445
MEAN_TOKENS, SIGMA = 466, 1.0
VOCABULARY = 32_000
BATCH_SIZE, LENGTH = 2048, 626
HOSTS = {1: 150, 128: 3000}
"""Batches that are measured, by hosts."""

NEAR = 1000
STEPS = 200


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache_dir", help="where the cache is, or is made to stay")
    parser.add_argument("--hosts", type=int, help="measure in this process, for so many hosts")
    flags = parser.parse_args()
    if flags.hosts:
        print(json.dumps(_host(flags.cache_dir, flags.hosts)))
        return
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = flags.cache_dir or folder
        _make(Path(cache_dir))
        hosts = {hosts: _in_process(cache_dir, hosts) for hosts in HOSTS}
        shuffle = _shuffle(cache_dir)
    print(
        json.dumps(
            {
                "benchmark": "c4_scale",
                "what": f"batches of {BATCH_SIZE} rows of {LENGTH} from a cache of C4's size",
                "on": f"{SHARDS} links to a shard of {DOCUMENTS:,} documents",
                "hosts": hosts,
                "shuffle": shuffle,
                "ratio": {h: found["epoch_bytes_read_per_byte_used"] for h, found in hosts.items()},
            }
        )
    )


def _make(cache_dir: Path) -> None:
    """Makes the cache, if it is not there; in a process that ends, as that takes memory."""
    code = f"from benchmarks import c4_scale; c4_scale.make({str(cache_dir)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def make(cache_dir: str) -> None:
    """Makes the cache in `cache_dir`, if it is not there."""
    from benchmarks import linked_cache

    if list(Path(cache_dir).glob("*/*/manifest.json")):
        return
    lengths = _lengths()
    # Zipf's law, so that tokens take about as many bytes as those of text.
    tokens = (np.random.default_rng(1).zipf(1.2, int(lengths.sum())) % VOCABULARY + 3).astype(
        np.int32
    )
    _register(linked_cache.Tokenised(tokens, lengths))
    linked_cache.make("c4_sized", Path(cache_dir), SHARDS)


def _lengths() -> np.ndarray:
    """Tokens of each document of a shard, int64 [documents]."""
    rng = np.random.default_rng(0)
    drawn = rng.lognormal(np.log(MEAN_TOKENS) - SIGMA**2 / 2, SIGMA, DOCUMENTS)
    return np.maximum(drawn.round(), 1).astype(np.int64)


def _register(documents=None) -> None:  # type: ignore[no-untyped-def]  # a type that brings TensorFlow
    import seqio

    from benchmarks import linked_cache

    vocabulary = seqio.PassThroughVocabulary(size=VOCABULARY + 128, eos_id=1)
    linked_cache.register("c4_sized", vocabulary, documents)


def _in_process(cache_dir: str, hosts: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.c4_scale"]
    arguments = ["--cache_dir", cache_dir, "--hosts", str(hosts)]
    done = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def _host(cache_dir: str, hosts: int) -> dict:
    """What the first of so many hosts takes."""
    from archobj_jax.data import loader
    from archobj_jax.data.block_rows import BLOCK_TOKENS, LANES
    from archobj_jax.objectives import DecoderLayout

    _register()
    config = _config(cache_dir)
    local = np.arange(BATCH_SIZE // hosts)
    memory, start = _resident_bytes(), time.perf_counter()
    with loader.train_batches(config, DecoderLayout(), start_step=0, local_rows=local) as batches:
        next(batches)
        startup = time.perf_counter() - start
        for _ in range(2 * config.prefetch):
            next(batches)
        opened = _open_shards()
        read, reads = _asked()
        cpu = time.process_time()
        for _ in range(HOSTS[hosts]):
            next(batches)
        cpu = time.process_time() - cpu
        now, reads_now = _asked()
        opened_now = _open_shards()
        grown = _resident_bytes() - memory
    stored, epoch_rows = _stored(cache_dir)
    rows = HOSTS[hosts] * len(local)
    used = rows * LENGTH * stored
    opening, opening_reads = _opening(cache_dir)
    data = now - read - (opened_now - opened) * opening
    data_reads = reads_now - reads - (opened_now - opened) * opening_reads
    blocks = len(local) * -(-LANES // BATCH_SIZE)
    return {
        "hosts": hosts,
        "seconds_to_first_batch": round(startup, 2),
        "resident_megabytes_more": round(grown / 1e6),
        "of_which_open_blocks": round(blocks * BLOCK_TOKENS * 2 / 1e6),
        "open_shards": opened_now,
        "batches": HOSTS[hosts],
        "bytes_a_read": round(data / data_reads),
        "bytes_to_open_a_shard": round(opening),
        "bytes_read_per_byte_used": round(data / used, 3),
        "with_opening_of_shards": round((now - read) / used, 3),
        "epoch_bytes_read_per_byte_used": round(
            data / used + SHARDS * opening / (epoch_rows / hosts * LENGTH * stored), 3
        ),
        "positions_per_cpu_second": round(rows * LENGTH / cpu),
    }


def _config(cache_dir: str):  # type: ignore[no-untyped-def]  # a type that brings TensorFlow
    from archobj_jax.data import loader

    return loader.DatasetConfig(
        "c4_sized_full_lm", {"targets": LENGTH}, "train", BATCH_SIZE, cache_dir=cache_dir
    )


def _windows(cache_dir: str):  # type: ignore[no-untyped-def]  # likewise
    """The windows that training reads, and the cache."""
    from archobj_jax.data import parts
    from archobj_jax.data.block_rows import Taken
    from archobj_jax.objectives import DecoderLayout

    config, layout = _config(cache_dir), DecoderLayout()
    components = parts.components(config, layout)
    (part,) = parts.parts(components, config, layout)
    return part.windows(Taken(BATCH_SIZE, BATCH_SIZE)), components[0].opened


def _stored(cache_dir: str) -> tuple[float, int]:
    """Bytes on disk of a position of the stream, and rows of an epoch."""
    windows, opened = _windows(cache_dir)
    shard = opened.manifest.shards[0]
    return shard.bytes / (shard.tokens + shard.documents), len(windows)


def _opening(cache_dir: str) -> tuple[float, float]:
    """Bytes and reads that opening a shard takes, on average: its index and its footer."""
    from archobj_jax.data.rows import TokenStream

    _, opened = _windows(cache_dir)
    stream = TokenStream(opened, opened.ids.eos_id)
    size = len(stream) // SHARDS
    costs = []
    for _ in range(2):  # the same tokens of 64 shards: once with opening them and once without
        read, reads = _asked()
        for shard in range(64):
            stream.load(shard * size + 5, 1)
        now, reads_now = _asked()
        costs.append((now - read, reads_now - reads))
    (first, first_reads), (again, again_reads) = costs
    return (first - again) / 64, (first_reads - again_reads) / 64


def _shuffle(cache_dir: str) -> dict:
    """Distances, in the source's order, between the documents that rows begin in."""
    from archobj_jax.data import shards

    _register()
    windows, opened = _windows(cache_dir)
    shard = opened.manifest.shards[0]
    size = shard.tokens + shard.documents
    order = np.fromiter(shards.permuted(range(shard.documents), 0), np.int64)
    firsts = np.cumsum(_lengths()[order] + 1)

    def documents(step: int) -> np.ndarray:
        """The documents that the rows of a batch begin in, int64 [rows]."""
        rows = range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        starts = np.array([windows.start(0, row) for row in rows]) % (size * SHARDS)
        within = np.minimum(np.searchsorted(firsts, starts % size, side="right"), len(order) - 1)
        return starts // size * shard.documents + order[within]

    steps = np.random.default_rng(1).integers(len(windows) // BATCH_SIZE - 1, size=STEPS)
    total = SHARDS * shard.documents
    batches = [documents(int(step)) for step in steps]
    nexts = [documents(int(step) + 1) for step in steps]
    uniform = [np.random.default_rng(s).integers(total, size=BATCH_SIZE) for s in range(STEPS)]
    expected = 2 * NEAR / total
    within_batch = float(np.mean([_near_pairs(batch) for batch in batches]))
    hosts = [np.split(batch, 128) for batch in batches]
    following = [np.split(batch, 128) for batch in nexts]
    pairs = [
        _near_between(a, b)
        for one, other in zip(hosts, following, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return {
        "documents": total,
        "near": f"within {NEAR:,} documents",
        "near_pairs_of_a_batch": within_batch,
        "the_same_uniform": expected,
        "near_pairs_of_drawn_documents": float(np.mean([_near_pairs(x) for x in uniform])),
        "near_pairs_of_a_batch_and_the_next": float(
            np.mean([_near_between(a, b) for a, b in zip(batches, nexts, strict=True)])
        ),
        "the_same_of_one_of_128_hosts": float(np.mean(pairs)),
        "distance_ks": round(_distance_ks(batches, total), 5),
        "distance_ks_of_drawn_documents": round(_distance_ks(uniform, total), 5),
    }


def _near_pairs(documents: np.ndarray) -> float:
    """The share of pairs that are near."""
    ordered = np.sort(documents)
    after = np.searchsorted(ordered, ordered + NEAR, side="right") - np.arange(len(ordered)) - 1
    return float(after.sum() / (len(ordered) * (len(ordered) - 1) / 2))


def _near_between(left: np.ndarray, right: np.ndarray) -> float:
    return float((np.abs(left[:, None] - right) <= NEAR).mean())


def _distance_ks(batches: list[np.ndarray], total: int) -> float:
    """The largest difference of the distances' distribution from that of uniform documents."""
    rng = np.random.default_rng(2)
    left, right = (np.concatenate([rng.permutation(batch) for batch in batches]) for _ in range(2))
    distances = np.sort(np.abs(left - right)[left != right]) / total
    uniform = 2 * distances - distances**2
    return float(np.abs(uniform - np.arange(len(distances)) / len(distances)).max())


def _asked() -> tuple[int, int]:
    """Bytes and reads that this process asked for so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["syscr"])


def _open_shards() -> int:
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:  # the one that lists them
            continue
    return len({link for link in links if link.endswith(".array_record")})


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
