"""From the names that a user gives to question sets that lm-eval can score."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.evaluate.quiet import quiet, seeded
from come.evaluate.tasks.harness import TITLE, harness_names, mmlu_dev_questions, needing_the_hub
from come.evaluate.tasks.questions import TITLES, Question, bundled_questions, read_questions

GROUPS: dict[str, tuple[str, ...]] = {"bundled": tuple(TITLES)}
OFFLINE: dict[str, str] = {**TITLES, "mmlu_dev": TITLE}
"""The tasks that need no network, with what they are."""

FEWSHOT_SEED = 1234  # lm-eval's own


@dataclass(frozen=True)
class QuestionSet:
    """Something that was asked for by one name, ready to be scored.

    Attributes:
        name: what results call it: its own name, or a file's name without its folder.
        loaded: lm-eval's tasks of it, as its ``TaskManager.load`` gives them.
    """

    name: str
    loaded: Any


def load_tasks(names: str | Sequence[str]) -> list[QuestionSet]:
    """The question sets of names: of ``OFFLINE`` or ``GROUPS``, paths of .jsonl files, names of lm-eval's tasks.

    A name given twice counts once.

    Raises:
        ComeError: a name is unknown, a file is missing or malformed, data cannot be fetched, or nothing is named.
    """
    return [_load(name) for name in _names(names)]


def check_tasks(names: str | Sequence[str]) -> list[str]:
    """The names with groups resolved, each known and each file well formed. What the hub holds is not fetched.

    Raises:
        ComeError: a name is unknown, a file is missing or malformed, or nothing is named.
    """
    known = _names(names)
    for name in known:
        if _is_file(name):
            read_questions(name)
        elif name not in OFFLINE:
            _require_known(name)
    return known


def is_group(name: str) -> bool:
    """Whether a name that ``check_tasks`` knows stands for several of lm-eval's tasks."""
    return not _is_file(name) and name not in OFFLINE and harness_names()[name] is None


def _names(names: str | Sequence[str]) -> list[str]:
    given = [names] if isinstance(names, str) else list(names)
    whole = [each for name in given if name.strip() for each in GROUPS.get(name.strip(), (name.strip(),))]
    found = list(dict.fromkeys(whole))
    if not found:
        raise ComeError("No task is named.", f"Without a network there are {_offline()}.")
    files = [Path(name).name for name in found if _is_file(name)]
    if twice := {name for name in files if files.count(name) > 1}:
        raise ComeError(f"Two files are named {min(twice)}.", "Results go by the name: rename one.")
    return found


def _is_file(name: str) -> bool:
    return name.endswith(".jsonl")


def questions_at_hand(name: str) -> list[Question] | None:
    """The questions of a file or of an offline task; None for lm-eval's own tasks, which keep theirs on the hub.

    Raises:
        ComeError: the file is missing or malformed.
    """
    if _is_file(name):
        return read_questions(name)
    if name in TITLES:
        return bundled_questions(name)
    return mmlu_dev_questions() if name == "mmlu_dev" else None


def _load(name: str) -> QuestionSet:
    if (questions := questions_at_hand(name)) is not None:
        return from_questions(Path(name).name if _is_file(name) else name, questions)
    _require_known(name)
    with quiet(), seeded(), needing_the_hub(name, _offline()):
        loaded = _from_harness(name)
    for task in loaded["tasks"].values():  # what lm-eval's own simple_evaluate does
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise ComeError(f"The task {name!r} runs code or needs pictures or sound.", "Choose one that is text only.")
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return QuestionSet(name, loaded)


def from_questions(name: str, questions: Iterable[Question]) -> QuestionSet:
    """A set of questions of ours: the choices are scored as continuations, without examples before them."""
    from lm_eval.api.task import ConfigurableTask

    rows = [question.model_dump() for question in questions]
    with quiet():
        task = ConfigurableTask(config=_config(name, rows))
    task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return QuestionSet(name, {"tasks": {name: task}, "groups": {}, "group_map": {}})


def _config(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """lm-eval's description of a task; docs/accuracy.md has it as YAML."""
    return {
        "task": name,
        "custom_dataset": _dataset_of(rows),
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1},
    }


def _dataset_of(rows: list[dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def dataset(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(rows)}

    return dataset


def _from_harness(name: str) -> Any:
    """One of lm-eval's own: a task by its file, a group or a tag by the index of all, which takes a while to make."""
    from lm_eval.tasks import TaskManager

    path = harness_names()[name]
    manager = TaskManager(include_defaults=path is None)
    return manager.load([name if path is None else str(path)])


def _require_known(name: str) -> None:
    known = harness_names()
    if name in known:
        return
    ours = [*GROUPS, *OFFLINE]
    near = list(
        dict.fromkeys(difflib.get_close_matches(name, ours, 2) + difflib.get_close_matches(name, sorted(known), 3))
    )
    near = near or [task for task in sorted(known) if name.lower() in task.lower()][:3]
    others = f"Without a network there are {_offline()}; a file of your own ends in .jsonl."
    raise ComeError(f"There is no task {name!r}.", f"Did you mean {' or '.join(near)}?" if near else others)


def _offline() -> str:
    return ", ".join([*GROUPS, *OFFLINE])
