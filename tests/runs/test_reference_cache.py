"""What is kept of a model between runs is that model's, not another's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

import come
from come import settings
from come.models.identity import identity
from come.runs import execute, reference_cache
from tests.runs.conftest import Create


def changed(model: Path, to: Path, file: str, **values: object) -> Path:
    """A copy of a model's folder, with other values in one of its files."""
    shutil.copytree(model, to)
    told = json.loads((to / file).read_text())
    (to / file).write_text(json.dumps({**told, **values}))
    return to


@pytest.mark.slow
def test_the_same_weights_by_another_configuration_are_another_model(
    new_run: Create, model: Path, tmp_path: Path
) -> None:
    stretched = {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}
    other = changed(model, tmp_path / "other", "config.json", rope_parameters=stretched)
    runs = [new_run(model=str(each), keep_model=False) for each in (model, other)]
    for run in runs:
        execute(run)
    first, second = (run.results()["original"]["perplexity"] for run in runs)
    assert first != second
    fresh = come.load(str(other), device="cpu")
    held_out = come.tokens(fresh, runs[1].config.text, 256, 64, "evaluation")
    assert second == pytest.approx(come.perplexity(fresh, held_out), rel=1e-6)


def test_a_name_and_a_place_make_no_other_model(model: Path, tmp_path: Path) -> None:
    copied = changed(model, tmp_path / "copy", "config.json", architectures=["LlamaForCausalLM"])
    one, other = (come.load(str(each), device="cpu") for each in (model, copied))
    assert identity(one) == identity(other)


def test_another_tokenizer_makes_another_model(model: Path, tmp_path: Path) -> None:
    other = changed(model, tmp_path / "other", "tokenizer.json", normalizer={"type": "Lowercase"})
    assert identity(come.load(str(model), device="cpu")) != identity(come.load(str(other), device="cpu"))


def test_a_full_disk_of_what_is_kept_ends_no_run(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(reference_cache, "save_file", full)
    run = new_run(keep_model=False)
    execute(run)
    assert run.state().status == "done"
    assert run.results()["original"]["perplexity"] > 0
    assert not list((settings.home() / "measured").glob("*.safetensors"))
