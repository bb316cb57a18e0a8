"""What is said of a document that is none: where it goes wrong and how, in words that name none of our classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from come.errors import ComeError
from come.models.checkpoint import whole
from come.models.source import resolve
from come.plan.plan import Plan
from come.runs.documents import RESULTS, results_of


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[1, 2]", "it should be an object"),
        ('{"pruned": {"layers": 4, "parameters": 9, "bytes": 1, "accuracy": {"a": {}}}}', "the accuracy of a task"),
    ],
)
def test_results_that_are_none(tmp_path: Path, document: str, said: str) -> None:
    (tmp_path / RESULTS).write_text(document)
    with pytest.raises(ComeError, match=said) as error:
        results_of(tmp_path)
    assert "_" not in error.value.what.removeprefix(str(tmp_path)) and "Value error" not in error.value.what


def test_a_damaged_pruned_model_is_made_from_its_plan(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"no weights")

    def hint() -> str:
        with pytest.raises(ComeError, match="cut short or damaged") as error:
            whole(weights)
        return error.value.hint

    assert hint() == "Fetch or copy the model again, whole."
    (tmp_path / "plan.json").write_text("{}")
    assert hint() == f"Make the model again: come rebuild {tmp_path / 'plan.json'} --out FOLDER"


@pytest.mark.parametrize("name", ["./" + "a" * 4000, "b c" * 2000])
def test_a_long_name_of_no_model_is_cut(name: str) -> None:
    with pytest.raises(ComeError) as error:
        resolve(name)
    assert name[:150] in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("values", ['{"schema_version": 1}', "{}"])
def test_a_plan_of_nothing_is_told_in_one_sentence(values: str) -> None:
    with pytest.raises(ComeError) as error:
        Plan.parse(values)
    said = str(error.value)
    assert "base: Field required" in said and "Value error" not in said and len(said) < 300
