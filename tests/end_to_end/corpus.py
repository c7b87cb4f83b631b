"""A small corpus of random words and records to prompt, which word_tasks.py registers."""

import json
import os
from pathlib import Path

import numpy as np

VARIABLE = "ARCHOBJ_TEST_CORPUS"
VOCAB_SIZE = 384
"""Bytes, special ids and 100 sentinels are 359; padded to 3 x 128."""
_WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def write(folder: Path) -> None:
    """Writes the files, and sets the variable for this process and those it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, documents in {"train": 400, "held": 40, "empty": 0}.items():
        rng = np.random.default_rng(documents)
        texts = [" ".join(rng.choice(_WORDS, rng.integers(20, 80))) for _ in range(documents)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(lines)
    for split, count in {"train": 60, "validation": 20}.items():
        rng = np.random.default_rng(count)
        records = [
            {"planet": str(rng.choice(_WORDS)), "label": int(rng.integers(2)), "moons": _WORDS[:3]}
            for _ in range(count)
        ]
        (folder / "planets").mkdir(exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "planets" / f"{split}.jsonl").write_text(lines)
    os.environ[VARIABLE] = str(folder)
