"""The train step: tokens a second, the share of the machine's peak, and memory.

    python -m benchmarks.train_step [--architecture CD] [--steps 5]

Trains on the embedded corpus as `archobj train` does, input pipeline included, in float32 with
Adafactor, tied embeddings and a vocabulary of 32,128: a causal decoder on FLM (8 layers, d_model
512, 6 heads of 64, d_ff 1024 GEGLU, 8 rows of 512) and an encoder-decoder on MLM (8 + 8 layers, 8
rows of 512 and 114). Figures are medians over steps. `share_of_peak` is of a 2048 x 2048 float32
matrix product in the same process, timed before and after; `ratio` is that share over T5X's, so
that the machine's mood cancels. The last line is one JSON object.
"""

import argparse
import json
import statistics
import tempfile

import jax

from archobj_jax.architectures.architecture import Architecture, CausalDecoder, EncoderDecoder
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.data import loader
from archobj_jax.data.loader import DatasetConfig
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import flops
from archobj_jax.training.meter import Meter
from archobj_jax.training.optimizers import Adafactor
from archobj_jax.training.prepared import PreparedStep
from archobj_jax.training.schedules import FactorSchedule
from archobj_jax.training.trainer import Trainer

NETWORK = NetworkConfig(
    vocab_size=32128,
    emb_dim=512,
    num_heads=6,
    head_dim=64,
    mlp_dim=1024,
    num_decoder_layers=8,
    num_encoder_layers=8,
)
LENGTHS = {"inputs": 512, "targets": 114}
RUNS: dict[str, tuple[Architecture, str, dict[str, int]]] = {
    "CD": (CausalDecoder(NETWORK), "embedded_full_lm", {"targets": 512}),
    "ED": (EncoderDecoder(NETWORK), "embedded_span_corruption", LENGTHS),
}
T5X_SHARE = {"CD": 0.44, "ED": 0.38}
"""T5X (commit cc342d41) on such steps: 353 to 362 tokens/s for CD and 477 to 482 (of inputs and
targets) for ED, on two cores that multiply at 192 to 203 GFLOP/s. Its temporaries are 6.0 GB and
4.9 GB."""
T5X_TEMPORARIES_GB = {"CD": 6.0, "ED": 4.9}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", choices=tuple(RUNS), help="one of them alone")
    parser.add_argument("--steps", type=int, default=5, help="steps timed, after one that is not")
    parser.add_argument("--cache_dir", help="where the corpus is cached; a temporary folder if not")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            name: _measured(name, flags.steps, flags.cache_dir or folder)
            for name in ([flags.architecture] if flags.architecture else RUNS)
        }
    print(
        json.dumps(
            {
                "benchmark": "train_step",
                "what": "a train step, its input pipeline included",
                "on": f"{jax.device_count()} {jax.devices()[0].device_kind}",
                "figures": figures,
                "ratio": {name: figure["share_over_t5x"] for name, figure in figures.items()},
            }
        )
    )


def _measured(name: str, steps: int, cache_dir: str) -> dict:
    model, task, lengths = RUNS[name]
    partitioner = Partitioner()
    rules = partitioner.logical_axis_rules(partitioner.mesh(jax.devices()[:1]))
    trainer = Trainer(Adafactor(), FactorSchedule())
    data = DatasetConfig(
        task, lengths, "train", batch_size=8, module="tasks.pretraining", cache_dir=cache_dir
    )
    prepared = PreparedStep.of(model, data, trainer, rules)
    step = prepared.compiled(seed=0)
    peaks = [flops.device_peak(jax.devices()[0])[0]]
    records = []
    meter = Meter(
        step_flops=prepared.flops(),
        peak_flops=1.0,
        tokens=0,
        skipped_steps=0,
        stop_on_nonfinite=True,
    )
    state = prepared.blueprint.init(trainer.transform(prepared.blueprint), seed=0)
    with loader.train_batches(data, model.layout, start_step=0) as batches:
        for number in range(steps + 1):
            with meter.waiting_for_input():
                rows = prepared.placement.put(next(batches))
            state, metrics = step(state, rows)
            meter.add(number, metrics)
            records.append(meter.record())
    peaks.append(flops.device_peak(jax.devices()[0])[0])
    memory = step.memory_analysis()
    assert memory is not None  # an XLA backend has one
    record = {
        key: statistics.median(each[key] for each in records[1:])
        for key in (
            "tokens_per_second", "seconds_per_step", "model_flops_per_second", "input_wait_share"
        )
    }  # fmt: skip
    share = record["model_flops_per_second"] / max(peaks)
    figure = {
        "tokens_per_second": round(record["tokens_per_second"], 1),
        "seconds_per_step": round(record["seconds_per_step"], 3),
        "gflop_per_second": round(record["model_flops_per_second"] / 1e9, 1),
        "peak_gflop_per_second": [round(peak / 1e9, 1) for peak in peaks],
        "share_of_peak": round(share, 3),
        "share_over_t5x": round(share / T5X_SHARE[name], 2),
        "temporaries_gb": round(memory.temp_size_in_bytes / 1e9, 2),
        "t5x_temporaries_gb": T5X_TEMPORARIES_GB[name],
        "input_wait_share": round(record["input_wait_share"], 4),
        "loss": round(records[-1]["loss"], 4),
    }
    print(json.dumps({name: figure}), flush=True)
    return figure


if __name__ == "__main__":
    main()
