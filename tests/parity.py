"""Compares this stack with numbers that T5X computed: `python -m tests.parity FILE.npz ...`.

Prints one JSON line a file, the largest difference of each kind; exits 1 if one is past its
tolerance. A file holds `params/<T5X path>`, `batch_{packed,plain}/<feature>`,
`out_*/{logits, token_loss, token_z_loss, loss_sum, ...}`, `grads_*/<T5X path>`,
`adafactor[_minN]_step{1,2}/{params,opt}/<T5X path>` and `meta_json` (architecture, dimensions,
hyperparameters).
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping

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
from archobj_jax.architectures.parameters import parameter_infos
from archobj_jax.interop.t5x import from_t5x, to_t5x
from archobj_jax.training.losses import Loss
from archobj_jax.training.optimizers import Adafactor

TOLERANCES = {
    "logits": 1e-5,  # absolute
    "token_loss": 1e-5,  # absolute
    "token_z_loss": 1e-5,  # absolute
    "loss_sum": 1e-5,  # relative
    "z_loss_sum": 1e-5,  # relative
    "weight_sum": 0.0,
    "gradients": 1e-5,  # relative to the largest of a parameter's gradient
    "adafactor_params": 1e-6,  # absolute
    "adafactor_slots": 1e-5,  # relative to the largest of a slot
}


class Golden:
    """One file: its arrays by prefix, and the model it describes."""

    def __init__(self, path: str):
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.meta = json.loads(str(self.arrays.pop("meta_json")))

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
        for side, tokens in (("decoder", "decoder_target_tokens"), ("encoder", "encoder_input_tokens")):
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


def compare_outputs(golden: Golden) -> Iterator[tuple[str, float]]:
    """Logits, losses and gradients of every group of the file."""
    for group in golden.groups("out_.*"):
        architecture = golden.architecture(group)
        outputs, gradients = forward_backward(golden, architecture, group)
        expected = golden.under(group)
        for name in expected.keys() & outputs.keys():
            measure = relative if name.endswith("_sum") else absolute
            yield name, measure(np.asarray(outputs[name]), expected[name])
        for path, value in golden.under(group.replace("out_", "grads_")).items():
            yield "gradients", relative(gradients[path], value)


def forward_backward(golden: Golden, architecture: Architecture, group: str):
    """Outputs by name, and gradients of the weighted loss sum by T5X path."""
    infos = list(parameter_infos(architecture.abstract()))
    graphdef = nnx.graphdef(architecture.abstract())
    params = from_t5x(golden.under("params"), infos)
    batch, loss = golden.batch(group), Loss(z_loss=golden.meta["z_loss"])

    def loss_sum(params):
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
        }
        return outputs["loss_sum"], outputs

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss_sum, has_aux=True))(params)
    return outputs, to_t5x(gradients, infos)


def compare_adafactor(golden: Golden) -> Iterator[tuple[str, float]]:
    """Two Adafactor steps from the file's own gradients, for each factoring threshold."""
    for name in {group.rsplit("_", 1)[0] for group in golden.groups("adafactor.*_step[12]")}:
        yield from _compare_adafactor(golden, name)


def _compare_adafactor(golden: Golden, name: str) -> Iterator[tuple[str, float]]:
    options = dict(golden.meta["adafactor"])
    options["min_dim_size_to_factor"] = options["min_dim_size_to_factor"][name]
    infos = list(parameter_infos(golden.architecture("out_packed").abstract()))
    params = from_t5x(golden.under("params"), infos)
    stacked = from_t5x(golden.under("params"), infos)
    for info in infos:
        _set(stacked, info.path, info.is_stacked)
    transform = Adafactor(**options).build(optax.constant_schedule(golden.meta["lr"]), stacked)
    state = transform.init(params)
    for step in (1, 2):
        _, gradients = _gradients(golden, params)
        updates, state = jax.jit(transform.update)(gradients, state, params)
        params = optax.apply_updates(params, updates)
        expected = golden.under(f"{name}_step{step}/params")
        for path, value in to_t5x(params, infos).items():
            yield "adafactor_params", absolute(value, expected[path])
        slots = golden.under(f"{name}_step{step}/opt")
        for slot, tree in state.slots._asdict().items():
            for path, value in to_t5x(tree, infos).items():
                yield "adafactor_slots", relative(value, slots[f"{path}/{slot}"])


def _gradients(golden: Golden, params):
    architecture = golden.architecture("out_packed")
    graphdef = nnx.graphdef(architecture.abstract())
    batch, loss = golden.batch("out_packed"), Loss(z_loss=golden.meta["z_loss"])

    def loss_sum(params):
        logits = nnx.merge(graphdef, params)(batch)
        losses = loss.token_losses(logits, batch["decoder_target_tokens"])
        return jnp.sum(losses.total * batch["decoder_loss_weights"])

    return jax.jit(jax.value_and_grad(loss_sum))(params)


def _set(tree: dict, path: tuple[str, ...], value: bool) -> None:
    for name in path[:-1]:
        tree = tree[name]
    tree[path[-1]] = value


def compare(path: str) -> dict[str, float]:
    """The largest difference of each kind in one file."""
    golden = Golden(path)
    largest: dict[str, float] = {}
    for kind, difference in (*compare_outputs(golden), *compare_adafactor(golden)):
        largest[kind] = max(largest.get(kind, 0.0), difference)
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
        print(json.dumps({"file": path, **dict(sorted(differences.items())), "past_tolerance": bad}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
