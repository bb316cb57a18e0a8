"""docs/adding-a-method.md, walked: the file that it prints is a method everywhere, and nothing else was edited."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import come
import come.runs
from come.cli import main
from come.errors import ComeError
from come.pruning import methods as folder
from come.pruning import registry
from come.report import verdict
from come.request import RunConfig
from come.runs import Run
from tests.app.conftest import Lab
from tests.app.synthetic import result

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the page's method, whose file lies beside the others for as long as a test runs."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "quiet.py").write_text(code)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path / "methods")])
    yield "quiet"
    registry._METHODS.pop("quiet", None)
    sys.modules.pop("come.pruning.methods.quiet", None)


def test_it_is_listed_with_its_options(quiet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert come.methods()[quiet].defaults() == {"batch_size": None, "reach": 1}
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert "quiet: Quiet stretches" in out
    assert "reach=1 (a whole number, 0 to 8): How many layers on either side count with a layer." in out
    assert main(["methods", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)[quiet]
    assert (told["kind"], told["options"]["reach"]) == ("remove", 1)
    assert (told["about_options"]["reach"]["least"], told["about_options"]["reach"]["most"]) == (0, 8)
    with pytest.raises(ComeError, match=r"The option reach of quiet cannot be 9\. Give 0 to 8\."):
        come.methods()[quiet].parse({"reach": 9})


def test_it_is_estimated_run_and_rebuilt(quiet: str, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"method": quiet, "options": {"reach": 0}, "target_layers": 4}
    told = come.estimate(RunConfig.model_validate(lab.fields | asked))
    assert told.layers == 4 and told.seconds_by_stage["compress"] > 0
    words = [word for name in ("model", "text") for word in (f"--{name}", str(lab.fields[name]))]
    words += ["--tokens", "1024", "--seq-len", "64", "--evaluation-tokens", "512", "--option", "reach=0"]
    assert main(["run", "--method", quiet, "--target-layers", "4", *words, "--json"]) == 0
    run = Run(lab.runs / json.loads(capsys.readouterr().out)["id"])
    (shortgpt,) = (each for each in come.runs.list_runs(lab.runs) if each.config.method == "shortgpt")
    assert run.plan().steps == shortgpt.plan().steps, "a layer alone is ShortGPT's rule"


def test_the_page_offers_and_foresees_it(quiet: str, visit: Callable[..., AppTest]) -> None:
    at = visit("plan", method=quiet, target="4", options="reach:2")
    assert not at.exception
    assert "Quiet stretches" in at.selectbox(key="method-choice").options
    reach = at.number_input(key="option-reach")
    assert (reach.value, reach.min, reach.max) == (2, 0, 8)
    assert at.number_input(key="option-batch_size").value is None, "none is none, whatever the least"
    assert reach.help == "How many layers on either side count with a layer."


def test_no_other_file_of_the_library_names_a_method() -> None:
    home = Path(folder.__file__).parent
    # CoMe is the default, and what a comparison asks about; random removal is the chance that all are held against. The
    # others are words of options, too: of devices, of dtypes, of the sensitivity of units, of charts.
    names = set(come.methods()) - {"come", "random", "auto", "fisher", "magnitude", "skip"}
    for path in Path(come.__file__).parent.rglob("*.py"):
        if path.parent != home:
            texts = {each.value for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Constant)}
            assert not texts & names, path


def test_a_verdict_counts_it_among_the_ways_of_removal(quiet: str) -> None:
    said = " ".join(verdict.sentences([result("come", 27, 50.0, 0.1), result(quiet, 27, 60.0, 0.1)], []))
    assert "Merging is better than removal" in said
