"""A report as a browser reads it, and a run of a large model to report."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from come.plan.plan import Base, Plan
from come.plan.steps import Concatenate
from come.runs import Run
from tests.app import synthetic

EMPTY = {"meta"}
LAYERS, CHANNELS, KV_GROUPS = 32, 11_008, 32  # of a model of 7 billion parameters


class Read(HTMLParser):
    """A document as a browser reads it: its elements, each with its attrs and all text in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        assert not self._open, "every element ends"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in EMPTY:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def texts(self, tag: str, kind: str = "") -> list[str]:
        return ["".join(text) for name, attrs, text in self.elements if name == tag and attrs.get("class", "") == kind]

    @property
    def said(self) -> str:
        """What a reader sees."""
        return "".join(self.texts("main"))

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(next("".join(text) for _, attrs, text in self.elements if attrs.get("id") == "figures"))


def rows(read: Read, kind: str) -> list[list[str]]:
    """The lines of the tables of a kind, as texts of their cells."""
    found: list[list[str]] = []
    of_this_kind = False
    for name, attrs, text in read.elements:
        if name == "table":
            of_this_kind = attrs.get("class") == kind
        elif of_this_kind and name == "tr":
            found.append([])
        elif of_this_kind and name in ("td", "th"):
            found[-1].append("".join(text))
    return found


def of_7_billion(folder: Path) -> Run:
    """A run of that size: eight pairs merged, with all that it measured and decided."""
    whole = {"layers": LAYERS, "parameters": 6_738_415_616, "bytes": 4 * 6_738_415_616, "losses": [2.0] * 64}
    results = synthetic.results_of("come", 24, 0)
    influence = [0.01 * (layer + 1) for layer in range(LAYERS)]
    record = {"ratio": [0.5, 0.5], "block_influence": influence, "skip_influence": influence[:-1]}
    results |= {
        "original": results["original"] | whole,
        "pruned": results["pruned"] | whole | {"layers": 24, "parameters": 5_119_000_000},
        "history": [record | {"window": [30 - 2 * step, 31 - 2 * step]} for step in range(8)],
    }
    run = synthetic.write(folder, "1", results, "come", 24)
    base = Base(source="a-7b", fingerprint="0" * 64, model_type="llama", layers=LAYERS, parameters=whole["parameters"])
    kept = [list(range(0, CHANNELS, 2)), list(range(1, CHANNELS, 2))]
    groups = [list(range(KV_GROUPS // 2))] * 2
    steps = [
        Concatenate(window=(30 - 2 * step, 31 - 2 * step), ratio=[0.5, 0.5], kv_groups=groups, channels=kept)
        for step in range(8)
    ]
    Plan(base=base, dtype="float32", method="come", steps=steps).write(run.path / "plan.json")
    return run
