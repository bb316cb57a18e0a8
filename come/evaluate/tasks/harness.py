"""What lm-eval brings: the names of its tasks, MMLU's development questions, and what needs the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from come.errors import ComeError
from come.evaluate.tasks.questions import Question
from come.models.source import hub_error

_NAME = re.compile(r"""^["']?(task|group)["']?:[ \t]*["']?([^\s"'#]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)
_TAGS = re.compile(r"""^["']?tag["']?:([^\n]*(?:\n[ \t]*- [^\n]*)*)""", re.MULTILINE)
_TAG = re.compile(r"[^\s\"'\[\],-][^\s\"'\[\],]*")


def harness_folder() -> Path:
    """Where lm-eval is installed."""
    spec = find_spec("lm_eval")
    return Path(next(iter(spec.submodule_search_locations or ["."]))) if spec is not None else Path()


@lru_cache(maxsize=1)
def harness_names() -> dict[str, Path | None]:
    """Every name that lm-eval knows, and perhaps one or two that are only templates.

    With it goes the file of a task that stands by itself; None for a group or a tag, which need lm-eval's index.
    """
    tasks: dict[str, Path | None] = {}
    others: set[str] = set()
    for folder, _, files in os.walk(harness_folder() / "tasks"):
        for path in (Path(folder, file) for file in files if file.endswith(".yaml") or "." not in file):
            text = path.read_text("utf-8", errors="replace")
            for tags in _TAGS.findall(text):
                others.update(_TAG.findall(tags))
            named = dict(_NAME.findall(text))
            if "group" in named or not path.suffix:  # templates have no ending
                others.update(named.values())
            elif "task" in named:  # of two files, lm-eval takes the first
                name = named["task"]
                tasks[name] = min(path, tasks.get(name) or path, key=Path.as_posix)
    return {**tasks, **dict.fromkeys(others - {"null"})}


PROMPTS = Path("tasks", "mmlu", "flan_cot_fewshot", "_cot_prompts.json")
TITLE = "MMLU's development questions, 4 choices"

# A prompt is a heading and some of these, an empty line after each. The answer is at the end of a chain of thought.
_ITEM = re.compile(
    r"^Q: (?P<question>.*?)\s+\(A\) (?P<A>.*?)\s+\(B\) (?P<B>.*?)\s+\(C\) (?P<C>.*?)\s+\(D\) (?P<D>.*?)"
    r"(?:\s+\(E\) (?P<E>.*?))?\s*\n"
    r"A: (?:(?!^Q: ).)*?answer is \(?(?P<answer>[A-E])\)?\.?\s*(?=\n\n|\Z)",
    re.DOTALL | re.MULTILINE,
)


@lru_cache(maxsize=1)
def mmlu_dev_questions() -> list[Question]:
    """The questions of all subjects, asked as lm-eval's ``mmlu_continuation`` asks.

    Raises:
        ComeError: the lm-eval that is installed ships no such file.
    """
    try:
        prompts = json.loads((harness_folder() / PROMPTS).read_text("utf-8"))
    except OSError as error:
        raise ComeError(
            "The lm-eval that is installed ships no MMLU development questions.", "Install the version required."
        ) from error
    return [_question(item) for subject in sorted(prompts) for item in _ITEM.finditer(prompts[subject])]


def _question(item: re.Match[str]) -> Question:
    choices = [item[letter] for letter in "ABCDE" if item[letter] is not None]
    answer = "ABCDE".index(item["answer"])
    return Question(question=f"Question: {item['question'].strip()}\nAnswer:", choices=choices, answer=answer)


@contextmanager
def needing_the_hub(task: str, offline: str) -> Iterator[None]:
    """Within, data are fetched from the hub, or found where they were kept; what fails becomes one sentence.

    Args:
        task: the task whose data it is.
        offline: the names of tasks that need no network.

    Raises:
        ComeError: the hub cannot be reached and the data were never fetched, or they cannot be loaded.
    """
    reached = hub_error() is None
    try:
        if reached:
            yield
        else:
            with _known_to_be_offline():
                yield
    except ComeError:
        raise
    except Exception as error:  # the hub, its HTTP client, Arrow and a task's own code have no base class in common
        if not reached:
            raise ComeError(
                f"The task {task!r} needs data from the Hugging Face hub, which cannot be reached.",
                f"Without a network there are {offline}, and .jsonl files of your own.",
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ComeError(f"The task {task!r} cannot be loaded: {reason}.", "Choose another one.") from error


@contextmanager
def _known_to_be_offline() -> Iterator[None]:
    """Within, what was fetched before is used and nothing else is tried."""
    import datasets.config
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
