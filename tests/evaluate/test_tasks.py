"""The names and files that accuracy can be asked for by, and what is told of those that it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from come.errors import ComeError
from come.evaluate.tasks import GROUPS, OFFLINE, check_tasks, load_tasks
from come.evaluate.tasks import harness as hub_module
from come.evaluate.tasks.harness import mmlu_dev_questions
from come.evaluate.tasks.questions import read_questions

GOOD = {"question": "Ice is", "choices": ["cold.", "hot.", "loud."], "answer": 0}


def test_our_form_and_piqas(tmp_path: Path) -> None:
    piqa = {"goal": "Warm your hands.", "sol1": "Rub them ", "sol2": "Freeze them", "label": 1}
    path = _written(tmp_path, json.dumps(GOOD), "", json.dumps({**GOOD, "id": 7}), json.dumps(piqa))
    first, second, third = read_questions(path)
    assert (first.question, first.choices, first.answer) == ("Ice is", ["cold.", "hot.", "loud."], 0)
    assert second == first
    assert third.question == "Warm your hands."
    assert (third.choices, third.answer) == (["Rub them ", "Freeze them"], 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ({"choices": ["a", "b"], "answer": 0}, 'no field "question"'),
        ({**GOOD, "question": " "}, "blank"),
        ({**GOOD, "choices": ["cold."]}, '"choices"'),
        ({**GOOD, "choices": ["cold.", ""]}, "blank"),
        ({**GOOD, "choices": ["cold.", "hot.", "cold."]}, "twice"),
        ({**GOOD, "answer": 3}, "none of the 3 choices"),
        ({**GOOD, "answer": -1}, '"answer"'),
        ({**GOOD, "answer": "0"}, '"answer"'),
        ({**GOOD, "answer": True}, '"answer"'),
        ({"goal": "a", "sol1": "b", "label": 0}, 'no field "sol2"'),
        ({"goal": "a", "sol1": "b", "sol2": "c", "label": 2}, '"label"'),
        ('{"question": "\\ud800", "choices": ["a", "b"], "answer": 0}', "Unicode"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(line: Any, reason: str, tmp_path: Path) -> None:
    path = _written(tmp_path, json.dumps(GOOD), "", line if isinstance(line, str) else json.dumps(line))
    for read in (read_questions, check_tasks):
        with pytest.raises(ComeError, match=rf"Line 3 of .*mine\.jsonl.*{reason}") as error:
            read(str(path))
        assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ComeError, match="There is no file"):
        check_tasks([str(tmp_path / "none.jsonl")])
    with pytest.raises(ComeError, match="holds no questions"):
        check_tasks([str(_written(tmp_path, "", " "))])
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(ComeError, match="not UTF-8"):
        check_tasks([str(tmp_path / "latin.jsonl")])
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ComeError, match="cannot be read"):
        check_tasks([str(tmp_path / "folder.jsonl")])


def test_groups_are_resolved_and_names_count_once(tmp_path: Path) -> None:
    path = str(_written(tmp_path, json.dumps(GOOD)))
    assert check_tasks(["school_science", "bundled", "mmlu_dev", path]) == [
        "school_science",
        *(name for name in GROUPS["bundled"] if name != "school_science"),
        "mmlu_dev",
        path,
    ]
    assert [each.name for each in load_tasks([path, path])] == ["mine.jsonl"]
    (tmp_path / "other").mkdir()
    with pytest.raises(ComeError, match=r"Two files are named mine\.jsonl"):
        check_tasks([path, str(_written(tmp_path / "other", json.dumps(GOOD)))])
    with pytest.raises(ComeError, match="No task is named"):
        check_tasks([" "])


def test_an_unknown_task_lists_near_names() -> None:
    with pytest.raises(ComeError, match=r"no task 'bundle'.*bundled"):
        check_tasks("bundle")
    with pytest.raises(ComeError, match=r"no task 'helaswag'.*hellaswag"):
        check_tasks("helaswag")
    with pytest.raises(ComeError, match=r"Without a network there are bundled, .*mmlu_dev"):
        check_tasks("qqqqqqqqqqqqqq")


def test_a_task_out_of_reach_names_those_that_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(hub_module, "hub_error", ConnectionError)
    assert check_tasks("piqa") == ["piqa"]
    with pytest.raises(ComeError, match=r"'piqa' needs data from the Hugging Face hub.*mmlu_dev") as error:
        load_tasks("piqa")
    assert all(name in str(error.value) for name in OFFLINE)
    assert not datasets.config.HF_HUB_OFFLINE
    assert capfd.readouterr() == ("", "")


def test_mmlus_development_questions_are_those_of_all_subjects() -> None:
    questions = mmlu_dev_questions()
    assert len(questions) == 282
    assert sorted(len(question.choices) for question in questions) == [4] * 281 + [5]
    first = questions[0]
    assert first.question == (
        "Question: Statement 1 | Every element of a group generates a cyclic subgroup of the group. "
        "Statement 2 | The symmetric group S_10 has 10 elements.\nAnswer:"
    )
    assert (first.choices, first.answer) == (["True, True", "False, False", "True, False", "False, True"], 2)
    assert not any(mark in choice for each in questions for choice in each.choices for mark in ("(B)", "A: Let", "Q: "))


def _written(folder: Path, *lines: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    return path
