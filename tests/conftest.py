"""For all tests: tiny models are faster on one thread, and give the same figures whatever else the machine does."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Visits with a browser come first: they take longest, and a worker left with one at the end works alone."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
