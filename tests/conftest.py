"""For all tests: tiny models are faster on one thread, and give the same figures whatever else the machine does."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, as one_thread for their own
# Families whose layers are built from the same parts as others': the slow tests try these, too.
ALIKE = {
    "mistral",
    "gemma3_text",
    "smollm3",
    "granite",
    "glm4",
    "cohere:qk-norm",
    "gpt_neox:sequential",
    "falcon",
    "falcon:one-norm",
    "falcon:by-head",
}
EVERY_FAMILY = "models"  # the folder of tests of loading, which are quick, and try all of them always
SAMPLE = 10  # ATTACKS=some tries one of so many attacks of a list, ATTACKS=all each of them


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Visits with a browser come first: they take longest, and a worker left with one at the end works alone."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
    for item in items:
        if EVERY_FAMILY not in item.path.parts and ALIKE & _words_given(item):
            item.add_marker(pytest.mark.slow)
    every = {"all": 1, "some": SAMPLE}.get(os.environ.get("ATTACKS", ""))
    if every != 1:
        _leave_attacks(config, items, every)


def _words_given(item: pytest.Item) -> set[str]:
    """What words a test is given by its parameters; a family is one."""
    call = getattr(item, "callspec", None)
    return {value for value in call.params.values() if isinstance(value, str)} if call else set()


def _leave_attacks(config: pytest.Config, items: list[pytest.Item], every: int | None) -> None:
    """Leave out the long lists of attacks: all of them, or of each test all but one in so many."""
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("attack"):
            tests[item.nodeid.partition("[")[0]].append(item)
    left = {item for attacks in tests.values() for place, item in enumerate(attacks) if every is None or place % every}
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]
