"""Compares this stack with numbers that T5X computed: `python -m tests.parity FILE.npz ...`.

Prints one JSON line a file, the largest difference of each kind; exits 1 if one is past its
tolerance. A file holds `params/<T5X path>`, `batch_{packed,plain}/<feature>`,
`out_*/{logits, token_loss, token_z_loss, loss_sum, ...}`, `grads_*/<T5X path>`,
`adafactor[_minN]_step{1,2}/{params,opt}/<T5X path>` and `meta_json` (architecture, dimensions,
hyperparameters).
"""

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from archobj_jax.architectures.architecture import (
    Architecture,
    CausalDecoder,
    EncoderDecoder,
    NonCausalDecoder,
)
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import insert, parameter_infos
from archobj_jax.interop.t5x import from_t5x, to_t5x
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor

TOLERANCES = {
    "logits": 1e-5,  # absolute
    "token_loss": 1e-5,  # absolute
    "token_z_loss": 1e-5,  # absolute
    "loss_sum": 1e-5,  # relative
    "z_loss_sum": 1e-5,  # relative
    # Relative to the largest: eight roundings of bfloat16. T5X takes the softmax in bfloat16, we in
    # float32; both end equally far (0.007 to 0.009 RMS, 0.04 to 0.07 at most, of logits up to 6)
    # from T5X's float32 logits and from each other.
    "logits_bf16": 2**-5,
    "weight_sum": 0.0,
    "sequence_scores": 1e-5,  # relative to the largest
    "gradients": 1e-5,  # relative to the largest of a parameter's gradient
    "adafactor_params": 1e-6,  # absolute
    "adafactor_slots": 1e-5,  # relative to the largest of a slot
}
RELATIVE = ("loss_sum", "z_loss_sum", "weight_sum", "sequence_scores", "logits_bf16")


class Golden:
    """One file: its arrays by prefix, and the model it describes."""

    def __init__(self, path: str, attention_kernel: str = "xla"):
        self.attention_kernel = attention_kernel
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.meta = json.loads(str(self.arrays.pop("meta_json")))
        self.infos = list(parameter_infos(self.architecture("out_packed").abstract()))
        self.params = jax.tree.map(jnp.asarray, from_t5x(self.under("params"), self.infos))

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays below `prefix/`, by the rest of their path."""
        start = prefix + "/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def groups(self, pattern: str) -> list[str]:
        """Top-level prefixes that match `pattern` from start to end."""
        tops = sorted({name.split("/")[0] for name in self.arrays})
        return [top for top in tops if re.fullmatch(pattern, top)]

    def network(self, dtype: str = "float32") -> NetworkConfig:
        """The network that the file's meta data and parameter names describe."""
        config = dict(self.meta["config"], dtype=dtype)
        config["mlp_activations"] = tuple(config["mlp_activations"])
        params = self.under("params")
        per_layer = "decoder/layers_0/relpos_bias/rel_embedding" in params
        return NetworkConfig(
            **config,
            num_decoder_layers=self.meta["layers"],
            num_encoder_layers=self.meta["layers"] if self.meta["arch"] == "encdec" else 0,
            positions="relative_per_layer" if per_layer else "relative_shared",
            attention_kernel=self.attention_kernel,
        )

    def architecture(self, group: str, dtype: str = "float32") -> Architecture:
        """The architecture that computed `group`; decoders are causal where its name says so."""
        network = self.network(dtype)
        if self.meta["arch"] == "encdec":
            return EncoderDecoder(network)
        return CausalDecoder(network) if group.endswith("_causal") else NonCausalDecoder(network)

    def batch(self, group: str) -> dict[str, jax.Array]:
        """The batch of `group`; plain ones get a segment wherever there is a token, as T5X does."""
        kind = "packed" if "packed" in group else "plain"
        batch = self.under(f"batch_{kind}")
        for side, tokens in (
            ("decoder", "decoder_target_tokens"),
            ("encoder", "encoder_input_tokens"),
        ):
            if tokens in batch:
                filled = (batch[tokens] > 0).astype(np.int32)
                batch[f"{side}_segment_ids"] = batch.get(f"{side}_segment_ids", filled) * filled
        return jax.tree.map(jnp.asarray, batch)


def absolute(ours: np.ndarray, golden: np.ndarray) -> float:
    """Largest absolute difference."""
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    return float(np.max(np.abs(np.asarray(ours, np.float64) - golden)))


def relative(ours: np.ndarray, golden: np.ndarray) -> float:
    """Largest absolute difference over the largest golden magnitude."""
    largest = float(np.max(np.abs(golden)))
    difference = absolute(ours, golden)
    return difference / largest if largest else difference


@functools.cache
def forward_backward(architecture: Architecture, z_loss: float, backward: bool) -> Callable:
    """The compiled `(params, batch) -> (outputs by name, gradients of the weighted loss sum)`.

    Without `backward` the gradients are None.
    """
    graphdef = nnx.graphdef(architecture.abstract())
    loss = Loss(z_loss=z_loss)

    def loss_sum(params, batch):
        logits = nnx.merge(graphdef, params)(batch)
        losses = loss.token_losses(logits, batch["decoder_target_tokens"])
        weights = batch["decoder_loss_weights"]
        outputs = {
            "logits": logits,
            "token_loss": losses.total,
            "token_z_loss": losses.z_loss,
            "loss_sum": jnp.sum(losses.total * weights),
            "z_loss_sum": jnp.sum(losses.z_loss * weights),
            "weight_sum": jnp.sum(weights),
            "sequence_scores": -jnp.sum((losses.total - losses.z_loss) * weights, axis=1),
        }
        return outputs["loss_sum"], outputs

    def compute(params, batch):
        if not backward:
            return loss_sum(params, batch)[1], None
        gradients, outputs = jax.grad(loss_sum, has_aux=True)(params, batch)
        return outputs, gradients

    return _jit(compute)


@functools.cache
def forward(architecture: Architecture) -> Callable:
    """The compiled `(params, batch) -> logits`."""
    graphdef = nnx.graphdef(architecture.abstract())
    return _jit(lambda params, batch: nnx.merge(graphdef, params)(batch))


def _jit(function: Callable) -> Callable:
    """Jitted with the code generator at its fastest: compiling, not running, takes the time here.

    XLA's own passes are those of any run.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def compare_outputs(golden: Golden) -> Iterator[tuple[str, float]]:
    """Logits, losses, scores and gradients of every group of the file."""
    for group in golden.groups("out_.*"):
        architecture, batch = golden.architecture(group), golden.batch(group)
        expected_gradients = golden.under(group.replace("out_", "grads_"))
        compute = forward_backward(architecture, golden.meta["z_loss"], bool(expected_gradients))
        outputs, gradients = jax.device_get(compute(golden.params, batch))
        expected = golden.under(group)
        if "logits_bf16" in expected:
            half = golden.architecture(group, "bfloat16")
            outputs["logits_bf16"] = jax.device_get(forward(half)(golden.params, batch))
        for name in expected:
            measure = relative if name in RELATIVE else absolute
            yield name, measure(outputs[name], expected[name])
        if expected_gradients:
            gradients = to_t5x(gradients, golden.infos)
        for path, value in expected_gradients.items():
            yield "gradients", relative(gradients[path], value)


def compare_adafactor(golden: Golden) -> Iterator[tuple[str, float]]:
    """Two Adafactor steps on the packed batch, for each factoring threshold."""
    for name in {group.rsplit("_", 1)[0] for group in golden.groups("adafactor.*_step[12]")}:
        yield from _compare_adafactor(golden, name)


def _compare_adafactor(golden: Golden, name: str) -> Iterator[tuple[str, float]]:
    options = dict(golden.meta["adafactor"])
    options["min_dim_size_to_factor"] = options["min_dim_size_to_factor"][name]
    stacked: dict = {}
    for info in golden.infos:
        insert(stacked, info.path, np.asarray(info.is_stacked))
    stacked = jax.tree.map(bool, stacked)
    transform = Adafactor(**options).build(optax.constant_schedule(golden.meta["lr"]), stacked)
    init, update = _jit(transform.init), _jit(transform.update)
    compute = forward_backward(golden.architecture("out_packed"), golden.meta["z_loss"], True)
    params, batch = golden.params, golden.batch("out_packed")
    state = init(params)
    for step in (1, 2):
        updates, state = update(compute(params, batch)[1], state, params)
        params = optax.apply_updates(params, updates)
        expected = golden.under(f"{name}_step{step}/params")
        for path, value in to_t5x(params, golden.infos).items():
            yield "adafactor_params", absolute(value, expected[path])
        slots = golden.under(f"{name}_step{step}/opt")
        for slot, tree in state.slots._asdict().items():
            for path, value in to_t5x(tree, golden.infos).items():
                yield "adafactor_slots", relative(value, slots[f"{path}/{slot}"])


def compare(path: str, attention_kernel: str = "xla") -> dict[str, float]:
    """The largest difference of each kind in one file."""
    golden = Golden(path, attention_kernel)
    largest: dict[str, float] = {}
    for kind, difference in (*compare_outputs(golden), *compare_adafactor(golden)):
        # A NaN stays: max() would let it pass.
        largest[kind] = max(
            largest.get(kind, 0.0), math.inf if math.isnan(difference) else difference
        )
    if not largest:
        raise ValueError(f"{path} holds nothing to compare")
    return largest


def failures(differences: Mapping[str, float]) -> list[str]:
    """The kinds that are past their tolerance (or not finite)."""
    return [kind for kind, value in differences.items() if not value <= TOLERANCES[kind]]


def main(paths: list[str]) -> int:
    """Prints one JSON line a file."""
    failed = False
    for path in paths:
        differences = compare(path)
        bad = failures(differences)
        failed = failed or bool(bad)
        print(
            json.dumps({"file": path, **dict(sorted(differences.items())), "past_tolerance": bad})
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
