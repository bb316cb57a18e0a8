"""Accuracy by hand and by lm-eval's own way, on tiny models and questions of our own."""

from __future__ import annotations

import copy
import json
import logging
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import come
from come.errors import ComeError
from come.evaluate import measure_accuracy, retained
from come.evaluate.tasks.load import QuestionSet
from come.evaluate.tasks.questions import read_questions
from come.events import Event
from come.models.bundle import weights_hash
from tests.tiny import tiny_bundle, tiny_folder, tiny_tokens

DOCS = Path(__file__).parents[2] / "docs" / "accuracy.md"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Questions with two to four choices of different lengths, some of one token."""
    draw = random.Random(0)
    words = ["warm", "cold and wet", "a", "of wood", "never seen", "b", "rather long ago", "c"]
    rows = [
        {"question": f"Thing {number} is", "choices": choices, "answer": draw.randrange(len(choices))}
        for number in range(40)
        for choices in [draw.sample(words, 2 + number % 3)]
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_a_choice_is_scored_as_the_continuation_of_its_question(family: str, questions: Path) -> None:
    bundle = tiny_bundle(family)
    right, right_by_length, spreads = [], [], []
    for item in read_questions(questions):
        scores = [_log_likelihood(bundle, item.question, f" {choice}") for choice in item.choices]
        by_length = [score / len(choice) for score, choice in zip(scores, item.choices, strict=True)]
        right.append(int(int(np.argmax(scores)) == item.answer))
        right_by_length.append(int(int(np.argmax(by_length)) == item.answer))
        spreads.append(np.std([-score / (len(choice) + 1) for score, choice in zip(scores, item.choices, strict=True)]))
    scored = measure_accuracy(bundle, [str(questions)])["mine.jsonl"]
    assert scored.hits == {"acc": right, "acc_norm": right_by_length}
    assert scored.spreads == pytest.approx(spreads, abs=1e-4)  # a token a character, the space before it too
    figures = scored.metrics
    assert figures["acc"] == pytest.approx(np.mean(right))
    assert figures["acc_stderr"] == pytest.approx(np.std(right, ddof=1) / 40**0.5)
    assert figures["acc_norm"] == pytest.approx(np.mean(right_by_length))
    assert figures["items"] == 40
    assert figures["chance"] == pytest.approx((14 / 2 + 13 / 3 + 13 / 4) / 40)
    assert retained(scored, scored)[0] in (None, 1.0)


def test_it_equals_lm_evals_own_figures_on_the_saved_folder(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the YAML of docs/accuracy.md, the saved model loaded by lm-eval itself."""
    import datasets.config
    import lm_eval.evaluator
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda _: None)  # asks pip, which takes seconds
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(block.replace("/path/to/my.jsonl", str(questions)))
    assert yaml.safe_load(block)["task"] == "my_questions"
    folder = tiny_folder(tmp_path, "qwen2")
    theirs = lm_eval.evaluator.simple_evaluate(
        model="hf",
        model_args=f"pretrained={folder},dtype=float32",
        tasks=["my_questions"],
        task_manager=TaskManager(include_path=str(tmp_path / "mine"), include_defaults=False),
        batch_size=16,
        device="cpu",
    )["results"]["my_questions"]
    ours = come.accuracy(come.load(folder, device="cpu"), [str(questions)])["mine.jsonl"]
    for figure in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr"):
        assert ours[figure] == theirs[f"{figure},none"]


def test_a_limit_takes_the_first_questions(questions: Path) -> None:
    bundle = tiny_bundle()
    whole, first = (measure_accuracy(bundle, str(questions), limit)["mine.jsonl"] for limit in (None, 5))
    assert first.metrics["items"] == 5
    assert first.hits["acc"] == whole.hits["acc"][:5]
    one = measure_accuracy(bundle, str(questions), 1)["mine.jsonl"].metrics
    assert "acc_stderr" not in one
    with pytest.raises(ComeError, match="too few"):
        come.accuracy(bundle, str(questions), limit=0)


def test_nothing_is_left_behind(questions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither on the model and its tokenizer, nor on the process, nor on the terminal."""
    import lm_eval.api.task
    from tqdm import tqdm

    bundle = tiny_bundle("qwen2")
    bundle.tokenizer.pad_token = None
    before = weights_hash(bundle.model), random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    level = logging.getLogger("lm_eval").level
    come.accuracy(bundle, str(questions), limit=3)
    after = weights_hash(bundle.model), random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2]) and before[3] == after[3]
    assert bundle.tokenizer.pad_token is None
    assert (lm_eval.api.task.tqdm, logging.getLogger("lm_eval").level) == (tqdm, level)
    assert capfd.readouterr() == ("", "")


def test_progress_is_told_by_task(questions: Path) -> None:
    events: list[Event] = []
    come.accuracy(tiny_bundle(), [str(questions), "physical_sense"], limit=40, on_progress=events.append)
    steps = [event.step for event in events]
    assert steps == sorted(steps) and steps[-1] == 200
    assert {event.of for event in events} == {200} and {event.stage for event in events} == {"accuracy"}
    assert events[0].message == "Accuracy: mine.jsonl" and events[-1].message == "Accuracy: physical_sense"
    assert len(set(steps)) > 50


def test_the_bundled_sets_and_mmlus_are_scored_by_name() -> None:
    bundle = tiny_bundle(max_position_embeddings=4096)
    found = come.accuracy(bundle, ["bundled", "mmlu_dev"], limit=4)
    assert list(found) == ["physical_sense", "what_happens_next", "school_science", "facts_cloze", "mmlu_dev"]
    assert [figures["chance"] for figures in found.values()] == [0.5, 0.25, 0.25, 0.25, 0.25]
    assert all(figures["items"] == 4 for figures in found.values())


def test_lm_evals_tasks_and_groups_keep_their_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A group that lm-eval sums up is one task, a tag is several; a task without choices has no chance."""
    import sys

    from lm_eval.tasks import TaskManager

    loading = sys.modules["come.evaluate.tasks.load"]
    rows = [{"q": f"One and {number} is", "c": ["two", "three"], "a": number % 2} for number in range(6)]
    data = tmp_path / "data.json"
    data.write_text("\n".join(map(json.dumps, rows)))
    chosen = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "{{c}}", "doc_to_target": "a",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}], "tag": "both",
    }  # fmt: skip
    written = {
        **chosen,
        "task": "written",
        "output_type": "loglikelihood",
        "doc_to_target": "{{c[0]}}",
        "metric_list": [
            {"metric": metric, "aggregation": how, "higher_is_better": metric == "acc"}
            for metric, how in (("perplexity", "perplexity"), ("acc", "mean"))
        ],
    }
    group = {
        "group": "summed",
        "task": ["one", "two"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    for name, config in {"one": chosen, "two": {**chosen}, "written": written, "summed": group}.items():
        config = config if name == "summed" else {**config, "task": name}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr(loading, "_from_harness", lambda name: manager.load([name]))
    monkeypatch.setattr(loading, "harness_names", lambda: dict.fromkeys(manager.all_tasks))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys.modules["come.evaluate.tasks.harness"], "hub_error", lambda: None)

    found = measure_accuracy(tiny_bundle(), ["summed", "both"])
    assert list(found) == ["summed", "one", "two", "written"]
    assert found["summed"].hits["acc"] == found["one"].hits["acc"] + found["two"].hits["acc"]
    assert found["summed"].metrics["items"] == 12 and found["summed"].metrics["chance"] == 0.5
    assert found["summed"].metrics["acc"] == pytest.approx(found["one"].metrics["acc"])
    assert 0 <= found["summed"].metrics["acc_stderr"] < 1
    assert found["written"].metrics.keys() == {"perplexity", "acc", "acc_stderr", "items", "chance"}
    assert found["written"].metrics["chance"] == 0


def _log_likelihood(bundle: Any, context: str, continuation: str) -> float:
    ids = bundle.tokenizer(context + continuation, return_tensors="pt")["input_ids"]
    begin = len(bundle.tokenizer(context)["input_ids"])
    with torch.inference_mode():
        scores = bundle.model(ids).logits[0, begin - 1 : -1].log_softmax(-1)
    return float(scores.gather(1, ids[0, begin:, None]).sum())


@pytest.mark.slow
def test_it_equals_what_lm_evals_command_line_prints_of_a_pruned_model(questions: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(block.replace("/path/to/my.jsonl", str(questions)))
    pruned = come.compress(tiny_bundle(), tiny_tokens(), target_layers=4).bundle
    folder = come.save(pruned, tmp_path / "pruned")
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder},dtype=float32"]
    command += ["--tasks", "my_questions", "--include_path", str(tmp_path / "mine"), "--batch_size", "16"]
    command += ["--device", "cpu", "--output_path", str(tmp_path / "told.json")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | offline)
    (told,) = tmp_path.glob("told*.json")
    theirs = json.loads(told.read_text())["results"]["my_questions"]
    ours = come.accuracy(pruned, [str(questions)])["mine.jsonl"]
    for figure in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr"):
        assert ours[figure] == theirs[f"{figure},none"]


def test_an_answer_that_the_model_ends_needs_an_end_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    written = QuestionSet("gsm8k", {"tasks": {"gsm8k": SimpleNamespace(OUTPUT_TYPE="generate_until")}})
    monkeypatch.setattr(sys.modules[measure_accuracy.__module__], "load_tasks", lambda _: [written])
    bundle.tokenizer = copy.deepcopy(bundle.tokenizer)
    bundle.tokenizer.eos_token = None
    with pytest.raises(
        ComeError, match="gsm8k has the model write until it ends, and its tokenizer has no end of text"
    ):
        come.accuracy(bundle, tasks="gsm8k")
