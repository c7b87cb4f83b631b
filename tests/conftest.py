"""The platform that tests run on, and the groups that run only when asked for.

pytest                                    what needs nothing: CPU, seen as eight devices
pytest --slow --network                   also the groups of those names
JAX_PLATFORMS=cuda pytest -n 0 -m gpu     what needs a GPU; likewise tpu
"""

import os
from pathlib import Path

import pytest

# Before anything imports JAX. Eight host devices let every mesh be tested everywhere.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu" and "device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compiled programs are kept for the other worker and for the next time.
_COMPILED = Path(__file__).parent.parent / "runs/cache/xla_tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

_BY_OPTION = ("slow", "network")
_BY_PLATFORM = {"gpu": "cuda", "tpu": "tpu"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for group in _BY_OPTION:
        parser.addoption(f"--{group}", action="store_true", help=f"also run the {group} tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for group in _BY_OPTION:
            if item.get_closest_marker(group) and not config.getoption(group):
                item.add_marker(pytest.mark.skip(reason=f"runs with --{group}"))
        for group, platform in _BY_PLATFORM.items():
            if item.get_closest_marker(group) and os.environ["JAX_PLATFORMS"] != platform:
                item.add_marker(pytest.mark.skip(reason=f"runs with JAX_PLATFORMS={platform}"))
