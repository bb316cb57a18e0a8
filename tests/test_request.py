from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from come.errors import ComeError
from come.request import DEFAULT_TEXT, SAMPLED, RunConfig, anchored, checked
from come.text import SELF, known_texts
from tests.tiny import tiny_folder


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n_token": 5}, "no setting 'n_token'.*n_tokens"),
        ({"n_tokens": 0}, "n_tokens cannot be 0"),
        ({"dtype": "int8"}, "dtype cannot be 'int8'"),
        ({"evaluate": ["sped"]}, "evaluate cannot be 'sped'"),
    ],
)
def test_what_a_request_cannot_be_is_said_in_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ComeError, match=sentence) as raised:
        RunConfig(**fields)
    assert "\n" not in str(raised.value)


def test_a_request_survives_json() -> None:
    config = RunConfig(options={"windows": [[1, 2]]}, similarity=("cka",), sparsity=0.2)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "python-docs").mkdir()
    (tmp_path / "smollm2-135m").mkdir()
    monkeypatch.chdir(tmp_path)
    bundled = anchored(RunConfig())
    assert (bundled.model, bundled.text, bundled.evaluation_text) == ("smollm2-135m", "python-docs", None)
    config = anchored(RunConfig(text="notes.txt", evaluation_text="notes.txt"))
    assert config.text == config.evaluation_text == str(tmp_path / "notes.txt")


def test_the_layers_that_will_be_left(tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"{number} squared is {number * number}." for number in range(2500)))
    model = tiny_folder(tmp_path, family="llama", layers=6)
    asked = {"model": str(model), "text": str(text), "target_layers": 4, "n_tokens": 512, "seq_len": 64}
    windows = {"target_layers": None, "options": {"windows": [[0, 1], [3, 5]]}}
    assert checked(RunConfig(**asked))[1] == 4
    assert checked(RunConfig(**{**asked, **windows}))[1] == 3
    assert checked(RunConfig(**{**asked, "kind": "analyze"}))[1] is None


def test_what_the_model_says_itself_judges_nothing(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path, family="llama", layers=6)
    asked = {"model": str(model), "text": "self", "target_layers": 4, "n_tokens": 512, "seq_len": 64}
    assert SAMPLED == SELF and SELF in {text.name for text in known_texts()}
    config, _ = checked(RunConfig(**asked, recover=["refit"]))
    assert (config.text, config.recovered_on, config.evaluated_on) == ("self", "self", DEFAULT_TEXT)
    assert RunConfig(text="mix").evaluated_on == "mix"
    with pytest.raises(ComeError, match="nothing can be judged on that"):
        checked(RunConfig(**asked, evaluation_text="self"))
