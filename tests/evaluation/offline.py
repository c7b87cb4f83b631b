"""To be imported before the harness, which reads these as it is imported: it asks no hub."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/evaluation/harness"
"""Tasks with their data."""

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HOME", str(ROOT / "runs/cache/huggingface"))
