"""The lesson's material, loaded once a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.learn import material
from app.learn.material import Material


@pytest.fixture(scope="module")
def of() -> Material:
    loaded = material.load()
    assert loaded is not None
    return loaded


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    material._load.cache_clear()
