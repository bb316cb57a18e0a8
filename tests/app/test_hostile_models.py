"""The page Model says in a sentence what is wrong with a model whose files lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.app.conftest import the_app
from tests.models import hostile, hostile_ggufs
from tests.tiny import tiny_folder

DAMAGES = {
    "10^5 layers": hostile.config(num_hidden_layers=10**5),
    "10^9 channels": hostile.config(hidden_size=10**9),
    "a negative size": hostile.config(num_attention_heads=-8),
    "a type that is a list": hostile.config(model_type=[]),
    "brackets": hostile.in_place_of("config.json", hostile.IN_PLACE["brackets"]),
    "a pipe": hostile.in_place_of("tokenizer.json", hostile.IN_PLACE["a pipe"]),
    "500 MB": hostile.in_place_of("tokenizer_config.json", hostile.IN_PLACE["500 MB"]),
    "a header of 2^63": hostile.WEIGHTS["a header of 2^63"],
    "49 bytes": lambda folder: hostile_ggufs.the_49_bytes(folder.parent),
    "10^9 layers of a .gguf": lambda folder: hostile_ggufs.written(
        folder.parent, hostile_ggufs.CHANGES["a billion layers"]
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole"), layers=2)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_page_says_what_is_wrong(
    damage: hostile.Damage, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    named = damage(Path(shutil.copytree(whole, tmp_path / "model")))
    app = the_app()
    app.switch_page("../pages/model.py")
    app.query_params["model"] = str(named)
    app.run()
    assert not app.exception
    told = [each.value for each in (*app.error, *app.warning)]
    assert told and not any("fault of ours" in each for each in told)
