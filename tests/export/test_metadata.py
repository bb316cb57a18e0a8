"""The head of a model card, read as the hub's own library reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from come.export.card import model_card
from come.export.metadata import eval_results, metadata, with_metadata
from come.models.catalogue import BUNDLED, BUNDLED_ON_HUB
from come.models.source import hub_id
from come.plan.plan import Base, Plan
from tests.tiny import tiny_bundle, tiny_folder

PLAN = Plan(
    base=Base(source=BUNDLED, fingerprint="0" * 64, model_type="llama", layers=6, parameters=60_000),
    dtype="float32",
    method="come",
)
RESULTS: dict[str, Any] = {
    "original": {
        "layers": 6,
        "parameters": 60_000,
        "perplexity": 11.329,
        "accuracy": {"boolq": {"acc": 0.75, "items": 8, "chance": 0.5}},
    },
    "pruned": {
        "layers": 4,
        "parameters": 40_000,
        "perplexity": 13.0206011314,
        "accuracy": {
            "boolq": {"acc": 0.625, "items": 8, "chance": 0.5},
            "gsm8k": {"exact_match,strict": 0.1, "items": 9, "chance": 0.0},
        },
    },
    "evaluation": {"text": "wikitext2", "split": "evaluation", "text_hash": "f" * 64, "n_tokens": 4096, "seq_len": 512},
}


def test_results_survive_the_way_through_a_card() -> None:
    data = metadata(BUNDLED, PLAN, RESULTS, "tiny")
    read = ModelCard(with_metadata("# A model\n", data)).data
    assert read.eval_results == data.eval_results == list(eval_results(RESULTS)) and read.model_name == "tiny"
    perplexity, accuracy = read.eval_results
    assert (perplexity.metric_type, perplexity.metric_value) == ("perplexity", 13.0206011314)
    assert perplexity.metric_name == "Perplexity (original: 11.33)"
    assert (perplexity.dataset_type, perplexity.dataset_config) == ("Salesforce/wikitext", "wikitext-2-raw-v1")
    assert perplexity.dataset_split == "test" and perplexity.dataset_args["text_hash"] == "f" * 64
    assert (accuracy.dataset_type, accuracy.metric_value) == ("boolq", 0.625)
    assert accuracy.metric_name == "Accuracy (original: 75.0%)" and accuracy.dataset_args["questions"] == 8


def test_the_head_names_what_the_hub_knows() -> None:
    read = ModelCard(with_metadata("", metadata(BUNDLED, PLAN, None, "tiny"))).data.to_dict()
    assert read == {
        "base_model": BUNDLED_ON_HUB,
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["come", "layer-pruning", "pruned"],
    }


def test_a_base_that_is_a_folder_is_not_named_but_its_license_is(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    assert "license" not in metadata(str(folder), PLAN, None, "tiny").to_dict()
    (folder / "README.md").write_text("---\nlicense: 'mit'\n---\n")
    read = metadata(str(folder), PLAN, None, "tiny").to_dict()
    assert read["license"] == "mit" and "base_model" not in read and "base_model_relation" not in read
    (folder / "README.md").write_text("---\nlicense: ask our lawyers\n---\n")  # which the hub would refuse
    assert "license" not in metadata(str(folder), PLAN, None, "tiny").to_dict()


@pytest.mark.parametrize(
    ("name", "on_hub"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        (BUNDLED, BUNDLED_ON_HUB),
        ("./Qwen/Qwen3", ""),
        ("/models/llama", ""),
        ("~/llama", ""),
        ("tests/export", ""),
        ("model.gguf", ""),
    ],
)
def test_a_name_of_the_hub_is_told_from_a_path(name: str, on_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert hub_id(name) == on_hub


def test_another_head_leaves_the_body_as_it_is() -> None:
    card = "---\nlicense: mit\n---\n# A model\n\n---\n\nmore\n"
    changed = with_metadata(card, metadata("Qwen/Qwen3-0.6B", None, None, ""))
    assert ModelCard(changed).text == "# A model\n\n---\n\nmore\n" and "mit" not in changed
    assert ModelCard(with_metadata("# bare\n", metadata(BUNDLED, None, None, ""))).text == "# bare\n"


def test_the_body_has_both_models_scores_by_task() -> None:
    bundle = tiny_bundle()
    bundle.plan = PLAN
    card = model_card(bundle, RESULTS)
    assert "| boolq | 8 | 75.0% | 62.5% | 50.0% |" in card and "gsm8k" not in card
    assert "| pruned | 4 | 40,000 | 13.02 |" in card
    assert "## Accuracy" not in model_card(bundle, {}) and ModelCard(model_card(bundle)).data.eval_results is None
