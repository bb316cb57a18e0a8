"""The documents name files, modules and commands that exist."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
import yaml

from come.models.catalogue import BUNDLED_ON_HUB

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMED = re.compile(r"(?<![\w./-])(?>(?:come|app|pages|tests|docs|scripts|benchmarks)/[\w./-]*\w/?)(?![*<])")
LINKED = re.compile(r"\]\((?!https?:)([^)#\s]+)")
DOTTED = re.compile(r"`(come(?:\.\w+)+)`")
EXAMPLES = {"come/pruning/methods/quiet.py"}  # what a reader is told to write


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    linked = {str((document.parent / link).resolve().relative_to(ROOT)) for link in LINKED.findall(text)}
    missing = [name for name in {*NAMED.findall(text), *linked} - EXAMPLES if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize(
    "document",
    [each for each in DOCUMENTS if each.name != "CHANGELOG.md"],  # which tells of what went, too
    ids=lambda path: path.name,
)
def test_what_is_named_as_code_is_there(document: Path) -> None:
    for name in DOTTED.findall(document.read_text("utf-8")):
        pkgutil.resolve_name(name)


def test_the_readme_tells_a_space_what_the_image_does() -> None:
    front = yaml.safe_load((ROOT / "README.md").read_text("utf-8").split("---\n")[1])
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert (
        front["sdk"] == "docker" and f"EXPOSE {front['app_port']}\n" in image and f"PORT={front['app_port']} " in image
    )
    assert front["license"] == "apache-2.0" and len(front["short_description"]) <= 60, "as the hub bounds it"
    assert front["models"] == [BUNDLED_ON_HUB]
