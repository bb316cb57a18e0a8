"""On-policy distillation: the student's own words, the reverse KL on them, and that a kill leaves no trace."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.events import Event
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import spans_of
from come.recovery.recover import lossy_spans, recover
from come.recovery.way import RecoverTask
from come.recovery.ways.on_policy import OnPolicyOptions, OwnWords
from come.recovery.whole_model import trainable_student
from come.text.sampled import PROMPT_TOKENS, planned, write
from come.training.checkpoint import read_state
from come.training.states import StateStore
from come.training.trainer import batch_of
from come.training.whole_model import Teacher
from tests.recovery.pruned import TOKENS, merged, rebuilt, same_weights
from tests.tiny import CASES

QUICK: dict[str, Any] = {
    "steps": 6, "lr": 3e-3, "batch_tokens": 64, "round_tokens": 128, "check_every": 2, "precision": "float32",
}  # fmt: skip
SIZE = 4  # sequences a batch; a round is two batches


def apart(student: Bundle, teacher: Bundle, tokens: Tensor) -> Tensor:
    """KL(student || teacher) a token, by the models themselves."""
    return apart_by(student.model, teacher.model, tokens)


def apart_by(student: Any, teacher: Any, tokens: Tensor) -> Tensor:
    made = student(tokens).logits.float().log_softmax(-1)
    with torch.no_grad():  # the two share most of their weights
        wanted = teacher(tokens).logits.float().log_softmax(-1)
    return (made.exp() * (made - wanted)).sum(-1).mean()


def written(folder: Path, epoch: int) -> Tensor:
    state = read_state(folder / f"1-on-policy-written-{epoch}.safetensors")
    assert state is not None
    return state[0]["tokens"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_first_loss_is_the_reverse_divergence_on_its_own_words(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    student, teacher = merged(family, dtype=dtype)
    events: list[Event] = []
    recover(student, teacher, TOKENS, "on-policy", on_progress=events.append, checkpoint=tmp_path, **QUICK)
    first = next(event.values for event in events if "train_loss" in event.values)
    words = written(tmp_path, 0)[batch_of(0, SIZE, 2 * SIZE, seed=0)]
    with torch.no_grad():
        expected = float(apart_by(deepcopy(student.model).float(), teacher.model, words))
    assert first["train_loss"] == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 2e-2)


def problem_of(student: Bundle, teacher: Bundle, tokens: Tensor, **options: Any) -> OwnWords:
    task = RecoverTask(student, teacher, tokens, spans_of(student.plan), lossy_spans(student, teacher, student.plan))
    copy, parameters, _ = trainable_student(task, options.pop("trains", "all"))
    room = torch.cat([tokens.new_zeros(2 * SIZE, tokens.shape[1]), tokens[-3:]])
    chosen = OnPolicyOptions(precision="float32", **options)
    with StateStore(room[2 * SIZE :], 32, torch.float32, 1) as store:
        return OwnWords(task, copy, parameters, Teacher(teacher, room, chosen, 2 * SIZE, store), room, 2 * SIZE, chosen)


def test_gradients_are_those_of_the_formula() -> None:
    student, teacher = merged("qwen3")
    problem = problem_of(student, teacher, TOKENS)
    problem.renew(0)
    loss = problem.gradients(torch.arange(SIZE))
    expected = apart(student, teacher, problem.tokens[:SIZE])
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, parameter in student.model.named_parameters():
        torch.testing.assert_close(problem.parameters[name].grad, parameter.grad, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        assert problem.held_out() == pytest.approx(float(apart(student, teacher, TOKENS[-3:])), rel=1e-5)


def test_it_writes_as_it_is_by_then() -> None:
    student, teacher = merged()
    problem = problem_of(student, teacher, TOKENS)
    problem.renew(0)
    first = problem.tokens[: 2 * SIZE].clone()
    with torch.no_grad():
        problem.parameters["lm_head.weight"].copy_(torch.randn(128, 32, generator=torch.Generator().manual_seed(3)))
    problem.renew(0)
    assert torch.equal(problem.tokens[: 2 * SIZE], first), "what is written is taken to its end"
    problem.renew(1)
    asked = planned(student.tokenizer, lambda drawn: TOKENS[drawn].tolist(), len(TOKENS) - 3, 2 * SIZE, 16, 1)
    changed = deepcopy(student.model)
    changed.load_state_dict({**problem.parameters})
    expected = write(Bundle(changed, student.tokenizer, student.family, ""), *asked)
    assert torch.equal(problem.tokens[: 2 * SIZE], expected)
    assert not torch.equal(expected, write(student, *asked))


@pytest.mark.parametrize("begins", [False, True])
def test_it_begins_as_its_model_does_and_every_other_time_as_the_text_does(begins: bool) -> None:
    student, teacher = merged()
    tokens, start = TOKENS.clone(), [student.tokenizer.bos_token_id]
    if begins:
        start = [student.tokenizer.unk_token_id, student.tokenizer.eos_token_id]
        tokens[:, :2] = torch.tensor(start)
    problem = problem_of(student, teacher, tokens)
    problem.renew(0)
    words, first = problem.tokens[: 2 * SIZE].tolist(), len(start)
    assert [row[:first] for row in words] == [start] * 2 * SIZE
    prompts = [row[2 * begins :][:PROMPT_TOKENS].tolist() for row in tokens[:-3]]
    taken = [row[first:][:PROMPT_TOKENS] in prompts for row in words]
    assert taken == [False, True] * SIZE


@pytest.mark.parametrize("family", CASES)
def test_every_family_comes_nearer_to_its_teacher_in_what_it_says(family: str, tmp_path: Path) -> None:
    student, teacher = merged(family)
    before = weights_hash(student.model), weights_hash(teacher.model)
    words = write(student, *planned(student.tokenizer, lambda drawn: [drawn], 100, 24, 16, seed=7))
    result = recover(student, teacher, words, "on-policy", **QUICK | {"steps": 12})
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before
    with torch.no_grad():
        assert apart(result.bundle, teacher, words) < apart(student, teacher, words)
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)


def test_the_seed_decides_what_is_said() -> None:
    student, teacher = merged()
    first, again, other = (
        recover(student, teacher, TOKENS, "on-policy", **QUICK, seed=seed).bundle for seed in (3, 3, 4)
    )
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_only_merged_layers_are_trained_where_that_is_asked() -> None:
    student, teacher = merged()
    result = recover(student, teacher, TOKENS, "on-policy", trains="merged", **QUICK | {"lr": 1e-3, "steps": 12})
    merges = {str(layer) for layer, group in enumerate(student.plan.groups()) if len(group) > 1}
    assert {name.split(".")[2] for name in result.plan.steps[-1].tensors} == merges


class Killed(Exception):
    pass


@pytest.mark.parametrize("minutes", [0.0, 100.0])  # a state is kept at every step, or never: then it starts anew
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_killed_and_resumed_is_as_if_never_killed(at: int, minutes: float, tmp_path: Path) -> None:
    student, teacher = merged()
    asked = {**QUICK, "checkpoint_minutes": minutes}
    expected = recover(student, teacher, TOKENS, "on-policy", **asked)
    seen: list[Event] = []

    def kill(event: Event) -> None:
        if "train_loss" in event.values:
            seen.append(event)
            if len(seen) == at:
                raise Killed

    with pytest.raises(Killed):
        recover(student, teacher, TOKENS, "on-policy", checkpoint=tmp_path, on_progress=kill, **asked)
    assert len(list(tmp_path.glob("*written*"))) == (at + 1) // 2
    resumed = recover(student, teacher, TOKENS, "on-policy", checkpoint=tmp_path, on_progress=seen.append, **asked)
    steps = [event.values["step"] for event in seen if "train_loss" in event.values]
    assert steps == [*range(1, at + 1), *range(1 if minutes else at + 1, 7)]
    assert same_weights(resumed.bundle, expected.bundle)
    assert resumed.plan.notes == expected.plan.notes


def test_progress_never_goes_back_while_it_writes() -> None:
    student, teacher = merged()
    events: list[Event] = []
    recover(student, teacher, TOKENS, "on-policy", on_progress=events.append, **QUICK)
    shares = [event.step for event in events]
    assert shares == sorted(shares)
    assert sum("Sampling 8 sequences" in event.message for event in events) >= 3


def test_without_steps_it_takes_as_many_tokens_as_the_text_has(tmp_path: Path) -> None:
    student, teacher = merged()
    asked = {name: value for name, value in QUICK.items() if name != "steps"}
    result = recover(student, teacher, TOKENS, "on-policy", checkpoint=tmp_path, **asked)
    assert any("of 6." in note for note in result.plan.notes), "21 sequences in batches of four"
    short = recover(student, teacher, TOKENS, "on-policy", checkpoint=tmp_path / "short", **QUICK | {"steps": 1})
    assert written(tmp_path / "short", 0).shape == (SIZE, 16), "no more is written than is taken"
    assert short.bundle.dtype == torch.float32


def test_text_of_the_model_itself_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    student, teacher = merged()
    said = come.tokens(teacher, "self", 24 * 16, 16)
    assert len(list((tmp_path / "sampled").iterdir())) == 1
    assert torch.equal(said, come.tokens(teacher, "self", 24 * 16, 16))
    for how in ("logits", "distill-sp"):
        options = {"steps": 12, "lr": 3e-3, "batch_tokens": 64, "precision": "float32"}
        result = recover(student, teacher, said, how, **options)
        with torch.no_grad():
            assert apart(result.bundle, teacher, said) < apart(student, teacher, said)
