"""T5X's parameter names, and trees of parameters to and from them.

T5X keeps every layer's parameters apart (`decoder/layers_3/mlp/wi_0/kernel`), ours are stacked
(`decoder/layers/mlp/wi_0/kernel`, [N, D, F]). Apart from that the two trees differ in a few names.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from archobj_jax.architectures.parameters import ParameterInfo, insert, lookup
from archobj_jax.errors import UserError, did_you_mean

_ENCODER_NAMES = {
    "self_attention": "attention",
    "pre_self_attention_layer_norm": "pre_attention_layer_norm",
}


def t5x_name(path: Sequence[str], layer: int | None, *, has_encoder: bool) -> str:
    """The T5X path of our parameter `path`, of layer `layer` if it is stacked.

    `has_encoder`: T5X's encoder-decoder shares one embedder at the top, its decoder-only keeps it
    inside the decoder.
    """
    top, *rest = path
    if top == "token_embedder":
        return "/".join(path) if has_encoder else "/".join(("decoder", *path))
    if top == "logits_dense":
        return "/".join(("decoder", *path))
    if rest[0] == "norm":
        return "/".join((top, f"{top}_norm", *rest[1:]))
    if rest[0] != "layers":
        return "/".join(path)
    names = [_ENCODER_NAMES.get(name, name) if top == "encoder" else name for name in rest[1:]]
    return "/".join((top, f"layers_{layer}", *names))


def from_t5x(
    arrays: Mapping[str, np.ndarray], infos: Sequence[ParameterInfo], *, suffix: str = ""
) -> dict:
    """Our nested tree of parameters from T5X's arrays by path.

    Args:
      arrays: T5X's arrays by `a/b/c` path.
      infos: our parameters, of a model with the same dimensions.
      suffix: appended to every T5X path, e.g. "/v_row" for an optimizer's slot.

    Raises:
      UserError: a parameter is missing from `arrays` or has another shape, or `arrays` has one
        that we have no place for.
    """
    has_encoder = any(info.path[0] == "encoder" for info in infos)
    used: set[str] = set()
    tree: dict = {}

    def take(info: ParameterInfo, layer: int | None) -> np.ndarray:
        name = t5x_name(info.path, layer, has_encoder=has_encoder) + suffix
        if name not in arrays:
            raise UserError(
                f"The T5X arrays have no '{name}' for the parameter {info.name} "
                f"{list(info.shape)}." + did_you_mean(name, arrays)
            )
        used.add(name)
        expected = info.shape if layer is None else info.shape[1:]
        if not suffix and arrays[name].shape != expected:
            raise UserError(
                f"The T5X array '{name}' for {info.name} has the shape "
                f"{list(arrays[name].shape)}, expected {list(expected)}."
            )
        return arrays[name]

    for info in infos:
        if info.is_stacked:
            value = np.stack([take(info, layer) for layer in range(info.shape[0])])
        else:
            value = take(info, None)
        insert(tree, info.path, value)
    unused = sorted(name for name in set(arrays) - used if name.endswith(suffix))
    if unused:
        raise UserError(f"The T5X arrays have {unused}, which this model has no parameters for.")
    return tree


def to_t5x(tree: Mapping, infos: Sequence[ParameterInfo]) -> dict[str, np.ndarray]:
    """T5X's arrays by path from our nested tree (of parameters, or shaped like them)."""
    has_encoder = any(info.path[0] == "encoder" for info in infos)
    arrays = {}
    for info in infos:
        value = np.asarray(lookup(tree, info.path))
        if info.is_stacked:
            for layer in range(info.shape[0]):
                arrays[t5x_name(info.path, layer, has_encoder=has_encoder)] = value[layer]
        else:
            arrays[t5x_name(info.path, None, has_encoder=has_encoder)] = value
    return arrays
