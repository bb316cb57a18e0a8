"""For all tests: tiny models are faster on one thread, and give the same figures whatever else the machine does."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

SAMPLE = 10  # one of so many attacks is tried, unless ATTACKS=all


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Visits with a browser come first: they take longest, and a worker left with one at the end works alone."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
    if os.environ.get("ATTACKS") != "all":
        _sample_attacks(config, items)


def _sample_attacks(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave some of the long lists of attacks: the first of each test, and every tenth after it."""
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("attack"):
            tests[item.nodeid.partition("[")[0]].append(item)
    left = {item for attacks in tests.values() for place, item in enumerate(attacks) if place % SAMPLE}
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]
