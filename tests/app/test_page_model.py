"""The page Model says what is done to a model when it is loaded, or why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.conftest import the_app
from tests.folders import as_fp8, edit_json, edit_weights
from tests.tiny import tiny_folder


def shown(folder: Path) -> tuple[str, str]:
    """What the page says below the model's facts, and what it warns of."""
    app = the_app()
    app.switch_page("../pages/model.py")
    app.query_params["model"] = str(folder)
    app.run()
    assert not app.exception
    return " ".join(each.value for each in app.caption), " ".join(each.value for each in app.warning)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))


def test_a_quantized_model_is_said_to_be_unpacked(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_weights(folder, as_fp8)
    edit_json(folder / "config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16]})
    said, warned = shown(folder)
    assert "are quantized (fp8) and are unpacked when it is loaded" in said.replace("\\", "") and not warned


def test_a_model_that_lacks_weights_is_not_offered(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    _, warned = shown(folder)
    assert "lacks 1 weight that its config calls for" in warned.replace("\\", "")


def test_before_a_room_the_drawings_stand_before_the_numbers(tmp_path: Path) -> None:
    app = the_app()
    app.switch_page("../pages/model.py")
    app.query_params["model"] = str(tiny_folder(tmp_path))

    def order() -> list[str]:
        """The bodies of what the page shows as HTML: of each drawing its title, of the numbers their table."""
        assert not app.run().exception
        shown = [html.proto.body for html in app.get("html")]
        return [name for body in shown for name in ("of the parameters<", "to scale<", "Hidden size") if name in body]

    assert order() == ["Hidden size", "of the parameters<", "to scale<"]
    app.query_params["present"] = "1"
    assert order() == ["of the parameters<", "to scale<", "Hidden size"]
