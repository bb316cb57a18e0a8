"""How many layers fit: exact against saved models, by property against other depths, one sentence where none does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import DynamicCache

import come
from come.errors import ComeError
from come.estimation.latency import Latency
from come.estimation.resolve import with_layers_for
from come.estimation.targets import HEADER, Answer, file_at, layers_for, memory_at
from come.files import parse_bytes
from come.models import Facts
from come.models.depth import with_layers
from come.request import RunConfig
from come.runs import create
from come.runs.reported import asked_for
from tests.tiny import CASES, tiny_bundle, tiny_folder

DTYPES = st.sampled_from(["float32", "bfloat16", "float16"])


def some_facts(layers: int = 12, layer: int = 1000, rest: int = 5000, **changes: Any) -> Facts:
    values = {each.name: 1 for each in dataclasses.fields(Facts)} | {
        "title": "A model",
        "supported": True,
        "reason": "",
        "layers": layers,
        "layer_parameters": layer,
        "parameters": rest + layers * layer,
        "parameters_by_part": {"embeddings": rest},
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "config": {},
    }
    return Facts(**values | changes)


@given(
    st.builds(some_facts, st.integers(1, 60), st.integers(1, 10**7), st.integers(1, 10**8)),
    DTYPES,
    DTYPES,
    st.none() | st.integers(1, 10**9),
    st.none() | st.integers(1, 10**9),
    st.none() | st.floats(1, 20),
    st.integers(1, 8192),
    st.floats(1e-4, 1),
    st.floats(0, 1),
)
def test_it_is_the_largest_that_meets_them_all(
    facts: Facts,
    dtype: str,
    saved: str,
    max_memory: int | None,
    max_bytes: int | None,
    speedup: float | None,
    context: int,
    layer: float,
    rest: float,
) -> None:
    latency = Latency({1: layer + rest, facts.layers: facts.layers * layer + rest}, "a machine", 0.0)
    window = min(context, facts.max_position_embeddings)

    def met(layers: int) -> list[bool]:
        return [
            max_memory is None or memory_at(facts, layers, dtype, window) <= max_memory,
            max_bytes is None or file_at(facts, layers, saved) <= max_bytes,
            speedup is None or latency.at(facts.layers) / latency.at(layers) >= speedup,
        ]

    try:
        answer = layers_for(facts, dtype, max_memory, max_bytes, speedup, latency, context, saved)
    except ComeError as error:
        assert not all(met(1))
        assert "Ask for" in error.hint
        return
    assert all(met(answer.layers))
    if answer.layers < facts.layers:
        more = met(answer.layers + 1)
        assert not all(more)
        short = {name for name, fits in zip(("memory", "file", "speed-up"), more, strict=True) if not fits}
        assert set(answer.binding) == short
    else:
        assert answer.binding == ()
    assert answer.memory == memory_at(facts, answer.layers, dtype, window)


@given(st.integers(1, 40), DTYPES, st.integers(1, 10**6))
def test_what_it_says_is_possible_is_the_least_that_is(layers: int, dtype: str, limit: int) -> None:
    facts = some_facts(layers, 3_000_000, 9_000_000)
    with pytest.raises(ComeError) as caught:
        layers_for(facts, dtype, max_memory=limit)
    named = caught.value.hint.removeprefix("Ask for at least ").partition("B")[0] + "B"
    assert layers_for(facts, dtype, max_memory=named).layers >= 1
    with pytest.raises(ComeError):
        layers_for(facts, dtype, max_memory=parse_bytes(named) - 2**20)


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(2, 40))
def test_the_speed_up_it_says_is_possible_is(layer: float, rest: float, layers: int) -> None:
    facts, latency = some_facts(layers), Latency({1: layer + rest, layers: layers * layer + rest}, "a machine", 0.0)
    assume(latency.speedup(1, layers) >= 1.02)
    with pytest.raises(ComeError) as caught:
        layers_for(facts, "float32", speedup=1000.0, latency=latency)
    most = float(caught.value.hint.removeprefix("Ask for at most ").rstrip("."))
    assert layers_for(facts, "float32", speedup=most, latency=latency).layers >= 1
    with pytest.raises(ComeError):
        layers_for(facts, "float32", speedup=most + 0.011, latency=latency)


def test_the_sentence_names_what_allows_no_more() -> None:
    def told(**allowed: int) -> str:
        names = {name.replace("_", "-"): most for name, most in allowed.items()}
        return Answer(min(names.values()), 30, names, 0, 0, 0, None).sentence

    assert told(memory=24, speed_up=26) == "24 layers: the memory allows no more; the speed-up would allow 26."
    assert told(memory=24, file=24, speed_up=30) == (
        "24 layers: the memory and the file allow no more; the speed-up would allow all 30."
    )
    assert told(file=1) == "1 layer: the file allows no more."
    assert told(memory=30) == "All 30 layers: what was asked for allows them."


def test_impossible_targets_name_the_nearest_possible() -> None:
    facts = some_facts(10, 2**20, 27 * 2**20, title="SmolLM2", num_key_value_heads=4, head_dim=64)
    latency = Latency({1: 2.0, 10: 11.0}, "a machine", 0.0)
    for targets, sentence in (
        (
            {"max_memory": "50MiB"},
            "No depth of SmolLM2 fits into 50MiB in bfloat16 with the keys and values of 2,048 tokens: its embeddings "
            "alone take 54.0 MiB. Ask for at least 58 MiB.",
        ),
        (
            {"max_bytes": "55 MiB"},
            "No depth of SmolLM2 fits into 55 MiB when it is saved in bfloat16: with one layer it takes 56.0 MiB. "
            "Ask for at least 57 MiB.",
        ),
        (
            {"max_bytes": "55 MiB", "save_dtype": "float32"},
            "No depth of SmolLM2 fits into 55 MiB when it is saved in float32: its embeddings alone take 108 MiB. "
            "Ask for at least 113 MiB, or a smaller dtype.",
        ),
        (
            {"speedup": 9, "latency": latency},
            "No depth of SmolLM2 is 9 times as fast: one layer alone is expected to be 5.50 times. "
            "Ask for at most 5.5.",
        ),
        ({"speedup": 0.5, "latency": latency}, "A speed-up of 0.5 makes no sense. Give 1 or more, such as 1.3."),
        (
            {"speedup": float("nan"), "latency": latency},
            "A speed-up of nan makes no sense. Give 1 or more, such as 1.3.",
        ),
        ({"context": 0}, "A context of 0 tokens makes no sense. Give at least 1."),
    ):
        with pytest.raises(ComeError) as caught:
            layers_for(facts, "bfloat16", **targets)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(("family", "tied"), [*((family, None) for family in CASES), ("llama", True), ("qwen2", False)])
def test_the_bytes_are_those_of_saved_files(family: str, tied: bool | None, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, layers=4, **({} if tied is None else {"tie_word_embeddings": tied}))
    facts, bundle = come.describe(folder), come.load(folder, device="cpu")
    for layers, dtype in ((4, "float32"), (2, "bfloat16")):
        pruned = with_layers(bundle, list(bundle.layers)[:layers], range(layers))
        saved = come.save(pruned, tmp_path / f"{layers}-{dtype}", dtype)
        size = sum(file.stat().st_size for file in saved.glob("*.safetensors"))
        header = size - facts.bytes_at(layers, dtype)
        assert 8 < header <= file_at(facts, layers, dtype) - facts.bytes_at(layers, dtype) == (layers + 1) * HEADER
        assert layers_for(facts, "float32", max_bytes=file_at(facts, layers, dtype), save_dtype=dtype).layers == layers


@pytest.mark.parametrize("family", [case for case in CASES if case not in ("gemma2", "gemma3_text")])
def test_the_memory_is_that_of_weights_and_a_full_cache(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family, layers=3)
    facts = come.describe(tiny_folder(tmp_path, family, layers=3))
    cache = DynamicCache(config=bundle.model.config)
    with torch.inference_mode():
        bundle.model(torch.randint(3, 90, (1, 40)), past_key_values=cache, use_cache=True)
    kept = sum(each.nbytes for layer in cache.layers for each in (layer.keys, layer.values))
    assert memory_at(facts, 3, "float32", 40) == bundle.bytes + kept


def test_not_more_context_counts_than_the_model_reads() -> None:
    assert layers_for(some_facts(max_position_embeddings=100), "float32", max_memory=10**9).context == 100
    assert layers_for(some_facts(max_position_embeddings=0), "float32", max_memory=10**9).context == 2048


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    return str(tiny_folder(tmp_path, layers=6))


def request(model: str, **changes: Any) -> RunConfig:
    tokens = {"n_tokens": 256, "seq_len": 32, "evaluation_tokens": 64}
    return RunConfig.model_validate({"model": model, "method": "come", **tokens, **changes})


def test_a_run_stores_the_layers_and_what_was_asked(model: str) -> None:
    facts = come.describe(model)
    limit = file_at(facts, 4, "bfloat16")
    resolved = with_layers_for(request(model, save_dtype="bfloat16"), max_bytes=limit + 1)
    stored = create(resolved).config
    assert (stored.target_layers, stored.sparsity) == (4, None)
    assert stored.asked is not None and stored.asked.max_bytes == limit + 1
    assert asked_for(stored.asked, {}) == [f"{stored.asked.sentence}"]
    assert stored.asked.sentence.endswith("of files. 4 layers: the file allows no more.")
    # What is stored is run, whatever would be chosen today.
    later = stored.model_copy(update={"save_dtype": "float32"})
    assert create(later).config.target_layers == 4


def test_how_far_off_the_expectation_was_is_told() -> None:
    asked = RunConfig.model_validate({"asked": {"speedup": 1.2, "expected": 1.5, "answer": "4 layers."}}).asked
    speeds = {
        which: {"speed": {"decode_tokens_per_second": rate}} for which, rate in (("original", 10), ("pruned", 12))
    }
    assert asked_for(asked, speeds)[1] == (
        "Expected to write 1.50 times as fast, measured 1.20 times: the expectation is 25.0% too high."
    )
    assert len(asked_for(asked, {})) == 1
    assert asked_for(None, speeds) == []


@pytest.mark.parametrize(
    ("changes", "targets", "sentence"),
    [
        ({"target_layers": 3}, {"max_memory": "1GB"}, "target_layers cannot be given together with"),
        ({"sparsity": 0.2}, {"max_bytes": "1GB"}, "sparsity cannot be given together with"),
        ({"options": {"windows": [[1, 2]]}}, {"max_bytes": "1GB"}, "windows cannot be given together with"),
        ({"method": "fisher"}, {"max_bytes": "1GB"}, "Fisher masks keeps every layer"),
        ({"method": "finercut"}, {"max_memory": "1GB"}, "FinerCut keeps every layer"),
        ({}, {"max_memory": "much"}, "is no size"),
        ({}, {"max_memory": "1 KiB"}, "No depth of"),
        ({}, {"max_bytes": "1KB", "speedup": 2.0}, "No depth of"),  # before anything is timed
    ],
)
def test_what_goes_not_together_is_refused(
    model: str, changes: dict[str, Any], targets: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ComeError, match=sentence):
        with_layers_for(request(model, **changes), **targets)


def test_what_the_method_does_not_reach_is_told_with_what_it_does(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "smollm3", layers=6)  # of two kinds of layers, which are not merged
    facts = come.describe(folder)
    with pytest.raises(ComeError) as caught:
        with_layers_for(request(str(folder)), max_bytes=file_at(facts, 1, "float32"))
    assert "out of reach" in caught.value.what and "the targets leave 1 of 6" in caught.value.what
    assert caught.value.hint.startswith("2 layers, the fewest, take ")
