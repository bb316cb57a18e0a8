"""For all tests: tiny models are faster on one thread, and give the same figures whatever else the machine does."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)
