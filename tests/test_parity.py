"""T5X's golden numbers hold, and the command that compares notices when one does not."""

from pathlib import Path

import numpy as np
import pytest

from archobj_jax.architectures import attention_kernels
from archobj_jax.architectures.chunked_attention import ChunkedAttention
from tests import parity

GOLDEN = Path(__file__).parent / "golden/parity"
T5X = {"logits", "token_loss", "token_z_loss", "loss_sum", "z_loss_sum", "weight_sum", "gradients"}
LATER = {"sequence_scores", "logits_bf16", "adafactor_params", "adafactor_slots"}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("encdec_tied", T5X | LATER),
        ("deconly_tied", T5X | LATER),
        ("bigscience_deconly_tied", T5X),
    ],
)
def test_t5x_numbers_hold(name: str, kinds: set[str]):
    differences = parity.compare(str(GOLDEN / f"{name}.npz"))
    assert differences.keys() == kinds
    assert parity.failures(differences) == []


def test_t5x_numbers_hold_by_chunks(monkeypatch):
    kernels = {"chunked": ChunkedAttention(chunk_bytes=1)}
    monkeypatch.setattr(attention_kernels, "KERNELS", kernels)
    assert parity.failures(parity.compare(str(GOLDEN / "encdec_tied.npz"), "chunked")) == []


@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_a_wrong_number_is_named_and_exits_1(wrong, tmp_path, capsys):
    with np.load(GOLDEN / "deconly_tied.npz") as arrays:
        kept = {
            name: value
            for name, value in arrays.items()
            if name.startswith(("params", "batch_plain", "out_plain_causal", "meta_json"))
        }
    sound, damaged = tmp_path / "sound.npz", tmp_path / "damaged.npz"
    np.savez(sound, **kept)
    kept["out_plain_causal/logits"][0, 3, 5] += wrong
    np.savez(damaged, **kept)
    assert parity.main([str(sound)]) == 0
    assert parity.main([str(damaged), str(sound)]) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert '"past_tolerance": ["logits"]' in second
    assert '"past_tolerance": []' in first
    assert '"past_tolerance": []' in third


def test_a_file_without_numbers_is_not_a_pass(tmp_path):
    with np.load(GOLDEN / "deconly_tied.npz") as arrays:
        kept = {k: v for k, v in arrays.items() if k.startswith(("params", "meta_json"))}
    np.savez(tmp_path / "empty.npz", **kept)
    with pytest.raises(ValueError, match="nothing to compare"):
        parity.compare(str(tmp_path / "empty.npz"))
