"""The prediction that ships with the example, of the plan to begin with: the plan page opens with numbers.

It goes by what the plan builds, so it holds for the same windows chosen by hand, too.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

from app import example_runs
from app.plan.whatif.ask import Predicted
from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Question, Subject

FILE = example_runs.FOLDER / "prediction.json"
_OF = (
    "model",
    "text",
    "n_tokens",
    "seq_len",
    "evaluation_seed",
    "seed",
    "measured_tokens",
)  # what of a subject an answer depends on, beside the analysis; windows are fitted on those last tokens


def prediction(subject: Subject, question: Question) -> Predicted | None:
    """What was recorded of a question; None where it was of another, or is not there."""
    if subject.analysis is None or not Path(subject.analysis).is_relative_to(example_runs.FOLDER):
        return None
    try:
        kept = json.loads(FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if subject.bos == "always":  # by itself the bundled model's tokenizer puts no BOS
        return None
    if kept["subject"] != _told(subject) or Question(**kept["question"]) != question:
        return None
    original, answer = (Answer(**kept[name] | {"cached": True}) for name in ("original", "answer"))
    return Predicted(original, answer)


def record(subject: Subject, question: Question, found: Predicted) -> None:
    """Keep a prediction; the bundled text is that of the Python which runs this, so its version is kept, too."""
    document = {
        "python": platform.python_version(),
        "subject": _told(subject),
        "question": question.model_dump(mode="json"),
        "original": found.original.model_dump(mode="json"),
        "answer": found.answer.model_dump(mode="json"),
    }
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _told(subject: Subject) -> dict[str, object]:
    return {name: getattr(subject, name) for name in _OF}
