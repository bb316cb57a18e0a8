"""Small files that lie end in one sentence, wherever they are named, and nothing is built of what they say.

`HOSTILE` counts them. The tables of what is done to a sound model lie in hostile.py and hostile_ggufs.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.models import describe, small_files
from come.request import RunConfig, checked
from tests.models import hostile, hostile_ggufs
from tests.models.hostile import Damage
from tests.tiny import tiny_folder

pytestmark = pytest.mark.timeout(60)

_IN_PLACE = {
    f"{name}: {what}": hostile.in_place_of(name, write)
    for name in (*hostile.SMALL_FILES, *hostile.OTHER_SMALL_FILES)
    for what, write in hostile.IN_PLACE.items()
    if not (name.endswith(".jinja") and what not in hostile.NOT_OF_JSON)
}
_ODD_IN_PLACE = {
    f"{name}: {what}": hostile.in_place_of(name, write)
    for name in (*hostile.SMALL_FILES, *hostile.OTHER_SMALL_FILES)
    for what, write in hostile.ODD_IN_PLACE.items()
}
REFUSED: dict[str, Damage] = {
    **{f"config: {name}": damage for name, damage in hostile.CONFIGS.items()},
    **_IN_PLACE,
    **{f"tokenizer: {name}": damage for name, damage in hostile.TOKENIZERS.items()},
    **{f"weights: {name}": damage for name, damage in hostile.WEIGHTS.items()},
    **{f"index: {name}": damage for name, damage in hostile.INDEXES.items()},
}
ODD: dict[str, Damage] = {
    **{f"config: {name}": damage for name, damage in hostile.ODD_CONFIGS.items()},
    **_ODD_IN_PLACE,
    **{f"tokenizer: {name}": damage for name, damage in hostile.ODD_TOKENIZERS.items()},
}
GGUFS: dict[str, Callable[[Path], Path]] = {
    **{name: (lambda parent, change=change: hostile_ggufs.written(parent, change))
       for name, change in hostile_ggufs.CHANGES.items()},
    "49 bytes": hostile_ggufs.the_49_bytes,
    **{f"cut after {size} bytes": (lambda parent, size=size: hostile_ggufs.cut(parent, size))
       for size in (0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 40, 60, 100, 500, 2_000, 5_000, 9_000, 12_000)},
}  # fmt: skip
HOSTILE = len(REFUSED) + len(ODD) + len(GGUFS)


def sentence(error: ComeError) -> str:
    """What is said: one line that ends as a sentence, in words and not in those of another library."""
    said = str(error)
    assert "\n" not in said and said.endswith((".", "?", ")")) and len(said) < 1500, said
    assert not re.search(r"fault of ours|Traceback", said), said
    return said


def refused(named: Path) -> None:
    """Whoever loads it, or asks for a run of it, gets a sentence; `come models` says why, or no more than the facts."""
    with pytest.raises(ComeError) as loaded:
        come.load(named)
    sentence(loaded.value)
    with pytest.raises(ComeError) as asked:
        checked(RunConfig(model=str(named), target_layers=2))
    sentence(asked.value)
    try:
        facts = describe(named)
    except ComeError as error:
        sentence(error)
        return
    assert not facts.supported and facts.reason


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole"), layers=2)


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(whole, tmp_path / "model"))


def _some(cases: dict[str, Any]) -> list[Any]:
    """All of them, of which every fourth is tried at once, and the others with the slow tests."""
    return [
        pytest.param(case, id=name, marks=[pytest.mark.slow, pytest.mark.attack] if number % 4 else [])
        for number, (name, case) in enumerate(cases.items())
    ]


def test_the_folder_that_is_damaged_is_sound(folder: Path) -> None:
    assert describe(folder).supported and come.load(folder).parameters == describe(folder).parameters


@pytest.mark.parametrize("damage", _some(REFUSED))
def test_a_file_that_lies_is_refused(damage: Damage, folder: Path) -> None:
    refused(damage(folder))


@pytest.mark.parametrize("damage", _some(ODD))
def test_an_odd_file_is_refused_or_does_no_harm(damage: Damage, folder: Path) -> None:
    named = damage(folder)
    try:
        bundle = come.load(named)
    except ComeError as error:
        sentence(error)
        refused(named)
        return
    facts = describe(named)
    assert facts.supported and facts.parameters == bundle.parameters
    try:
        saved = come.save(bundle, named.parent / "saved")
    except ComeError as error:
        sentence(error)
        return
    assert come.load(saved).fingerprint == bundle.fingerprint


def test_the_gguf_file_that_is_damaged_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    path = hostile_ggufs.written(tmp_path, lambda _: None)
    facts = describe(path)
    assert (facts.supported, facts.reason, facts.layers) == (True, "", 1)
    assert come.load(path).parameters == facts.parameters


@pytest.mark.parametrize("write", _some(GGUFS))
def test_a_gguf_file_that_lies_is_refused(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    refused(write(tmp_path))
    assert not list((tmp_path / "home").rglob("config.json"))


def test_a_folder_of_very_many_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_files, "MOST_FILES", 200)
    for number in range(201):
        (folder / f"{number}.txt").touch()
    refused(folder)


def test_of_a_card_only_the_beginning_is_read(folder: Path) -> None:
    hostile.giant(100_000_000, b"---\nlicense: mit\n---\n")(folder / "README.md")
    assert describe(folder).license == "mit"
    (folder / "README.md").unlink()
    for name, write in hostile.IN_PLACE.items():
        if name not in ("500 MB", "a pipe", "an endless device", "the terminal"):
            write(folder / "README.md")
            assert describe(folder).license == "", name
            (folder / "README.md").rmdir() if (folder / "README.md").is_dir() else (folder / "README.md").unlink()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\x80b", "\udc80".encode("utf-8", "surrogatepass")])
def test_a_folder_whose_name_is_no_text_is_refused(
    name: bytes, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from come.cli import main

    odd = folder.parent / os.fsdecode(name)
    folder.rename(odd)
    refused(odd)
    for command in (["models"], ["run", "--target-layers", "1", "--model"], ["export", "--format", "gguf"]):
        assert main([*command, str(odd)]) == 2
        said = capfd.readouterr().err.strip()
        assert said and "\n" not in said and "fault of ours" not in said


@pytest.mark.parametrize("name", ["a\0b", "/a\0b", "a/b\0", "\ud800", "x" * 70_000, "a\nb", "..", "/", "\x1b[2J"])
def test_names_that_can_be_no_model(name: str) -> None:
    for ask in (describe, come.load):
        with pytest.raises(ComeError):
            ask(name)
    with pytest.raises(ComeError):
        checked(RunConfig(model=name, target_layers=2))


def test_so_many_were_tried() -> None:
    assert HOSTILE >= 200
