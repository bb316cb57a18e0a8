"""The four sets that were written for this project, frozen before any model saw them."""

from __future__ import annotations

from pathlib import Path

from come.evaluate.tasks.questions import Question, read_questions

FOLDER = Path(__file__).parent.parent / "questions"

TITLES = {
    "physical_sense": "everyday physical sense, 2 choices",
    "what_happens_next": "what happens next, 4 choices",
    "school_science": "school science, 4 choices",
    "facts_cloze": "cloze of facts, 4 choices",
}
# Any change of an item makes another set: numbers taken on the old one would no longer compare.
SHA256 = {
    "physical_sense": "d876c86abc7668ecd2c5298927af6248489a9a05e81dae7015b5702754452316",
    "what_happens_next": "ef08d11ab940863b51b8e98a6c0ee324d88485aee839fe64f9edf4e419c95cbe",
    "school_science": "33c89b78519b19cfbcba80b6c9d857efa92baf983a846dcfeea5a0645f476018",
    "facts_cloze": "1226301f53b42f70840f71c08dee0059d8317db3a216927939d5de44376d7a4a",
}


def bundled_questions(name: str) -> list[Question]:
    """The questions of one of the sets in ``TITLES``."""
    return read_questions(FOLDER / f"{name}.jsonl")
