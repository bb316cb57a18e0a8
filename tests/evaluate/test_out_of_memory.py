"""A model whose layers stay on disk answers as it does in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

import come
from come.models.offload import is_offloaded
from tests.tiny import tiny_folder, tiny_tokens


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # the second ties its head to its embeddings
def test_it_is_judged_as_in_memory(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    folder = tiny_folder(tmp_path, family)
    outside, inside = come.load(folder, device="balanced", max_memory={"cpu": "60KB"}), come.load(folder, device="cpu")
    assert is_offloaded(outside.model)
    ours, theirs = (come.accuracy(bundle, "facts_cloze", limit=5) for bundle in (outside, inside))
    assert ours == theirs
    assert come.kl_divergence(outside, inside, tiny_tokens()) == 0
    assert come.speed(outside, prompt_tokens=4, new_tokens=2, rounds=1).rounds == 1
    assert outside.fingerprint == inside.fingerprint
