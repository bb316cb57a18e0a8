"""Small sets of questions that tests ask."""

from __future__ import annotations

import json
from pathlib import Path


def questions_file(folder: Path, name: str, count: int) -> str:
    """A .jsonl file of so many questions of two or three choices, and its path."""
    words = ["odd", "even", "neither"]
    lines = [
        json.dumps({"question": f"{number} is", "choices": words[: 2 + number % 2], "answer": number % 2})
        for number in range(count)
    ]
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)
