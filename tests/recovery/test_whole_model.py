"""Training the whole model: logit distillation, LoRA, partial fine-tuning."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.measurement.layer_runner import LayerRunner
from come.models.bundle import weights_hash
from come.recovery import whole_model
from come.recovery.recover import recover
from come.training.student import trainable_bundle
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModel, WholeModelOptions
from tests.recovery.pruned import TOKENS, merged, rebuilt, same_weights
from tests.tiny import CASES, tiny_bundle

QUICK: dict[str, Any] = {"steps": 6, "lr": 3e-3, "batch_tokens": 64, "check_every": 2, "precision": "float32"}
BY_TEACHER = {**QUICK, "text": 0.0}  # tokens at random teach a student nothing that its teacher says


def divergence(teacher: come.Bundle, student: come.Bundle) -> float:
    with torch.no_grad():
        wanted, made = (each.model(TOKENS).logits.float().log_softmax(-1) for each in (teacher, student))
    return float((wanted.exp() * (wanted - made)).sum(-1).mean())


@pytest.mark.parametrize("family", CASES)
def test_logits_bring_every_family_nearer_to_its_teacher(family: str, tmp_path: Path) -> None:
    student, teacher = merged(family)
    before = weights_hash(student.model), weights_hash(teacher.model)
    result = recover(student, teacher, TOKENS, "logits", **BY_TEACHER)
    assert (weights_hash(student.model), weights_hash(teacher.model)) == before
    assert divergence(teacher, result.bundle) < divergence(teacher, student)
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)
    embeddings = {name for path in student.family.embeddings for name in (f"{path}.weight",)}
    assert not embeddings & set(result.plan.steps[-1].tensors)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 4},
        {"temperature": 2.0},
        {"text": 0.5},
        {"trains": "all"},
        {"trains": "layers"},
        {"trains": "merged"},
        {"precision": "bfloat16"},
    ],
)
def test_options_of_logits(options: dict[str, Any]) -> None:
    student, teacher = merged("qwen2")  # its head is tied
    result = recover(student, teacher, TOKENS, "logits", **BY_TEACHER | options)
    assert divergence(teacher, result.bundle) < divergence(teacher, student)
    changed = set(result.plan.steps[-1].tensors)
    assert ("model.embed_tokens.weight" in changed) == (options.get("trains") == "all")
    layers = {name.split(".")[2] for name in changed if name.startswith("model.layers.")}
    merges = {str(layer) for layer, group in enumerate(student.plan.groups()) if len(group) > 1}
    assert layers == (merges if options.get("trains") == "merged" else {"0", "1", "2", "3"})
    head = result.bundle.model.lm_head.weight
    assert head is result.bundle.model.model.embed_tokens.weight


def test_what_enters_the_lowest_merged_layer_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = merged()
    layers = [layer for layer, group in enumerate(student.plan.groups()) if len(group) > 1]
    assert layers[0] > 0
    asked = BY_TEACHER | {"trains": "merged", "steps": 12, "lr": 1e-3}  # more than the 21 sequences once
    runs: list[int] = []
    run = LayerRunner.run

    def counted(runner: LayerRunner, layer: int, states: Tensor, module: Any = None) -> Tensor:
        if torch.is_grad_enabled():
            runs.append(layer)
        return run(runner, layer, states, module)

    monkeypatch.setattr(LayerRunner, "run", counted)
    kept = recover(student, teacher, TOKENS, "logits", **asked)
    assert set(runs) == set(range(layers[0], 4))
    monkeypatch.setattr(whole_model, "_first_to_keep", lambda tokens, options: len(tokens) - 3)
    runs.clear()
    again = recover(student, teacher, TOKENS, "logits", **asked)
    assert set(runs) == set(range(4))
    for name, value in again.bundle.model.named_parameters():
        torch.testing.assert_close(kept.bundle.model.get_parameter(name), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "changes"),
    [
        ("float32", {"gradient_checkpointing": True}),
        ("bfloat16", {"gradient_checkpointing": True}),  # the second run of a layer is under autocast too
        ("float32", {"micro_tokens": 32}),
    ],
)
def test_saving_memory_changes_no_gradient(precision: Any, changes: dict[str, Any]) -> None:
    bundle = tiny_bundle()
    found = []
    for each in ({}, changes):
        student, parameters = trainable_bundle(bundle, lambda name: True)
        options = WholeModelOptions(precision=precision, **each)
        problem = WholeModel(student, parameters, None, TOKENS, VocabularyLoss(0.0, 1.0), options)
        loss = problem.gradients(torch.arange(6))
        found.append((loss, {name: parameter.grad for name, parameter in parameters.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6)


def test_gradients_are_those_of_the_model_itself() -> None:
    bundle = tiny_bundle()
    student, parameters = trainable_bundle(bundle, lambda name: True)
    problem = WholeModel(
        student, parameters, None, TOKENS, VocabularyLoss(0.0, 1.0), WholeModelOptions(precision="float32")
    )
    loss = problem.gradients(torch.arange(4))
    expected = bundle.model(TOKENS[:4], labels=TOKENS[:4]).loss
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, parameter in bundle.model.named_parameters():
        torch.testing.assert_close(parameters[name].grad, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("how", ["lora", "partial"])
def test_comparisons_lower_the_loss_of_the_text(how: str, family: str, tmp_path: Path) -> None:
    student, teacher = merged(family)
    tokens = TOKENS[:3].repeat(8, 1)
    result = recover(student, teacher, tokens, how, **QUICK | {"lr": 1e-2, "steps": 12})
    assert come.perplexity(result.bundle, tokens) < come.perplexity(student, tokens)
    assert same_weights(rebuilt(teacher, result, tmp_path), result.bundle)
    changed = set(result.plan.steps[-1].tensors)
    tied = student.model.config.tie_word_embeddings
    if how == "partial":
        assert not any(name.startswith(f"{student.family.layers}.0.") for name in changed)
        assert any("tied" in note for note in result.plan.notes) == tied
        assert any("embed" in name or "lm_head" in name or "wte" in name for name in changed)
    else:
        assert all(name.startswith(student.family.layers) for name in changed)
        assert "peft" not in str(type(result.bundle.model)).lower()
        assert not hasattr(result.bundle.model, "peft_config")


@pytest.mark.parametrize(("last_layers", "final_norm"), [(3, True), (1, True), (2, False), (0, True)])
def test_partial_training_is_the_published_programs(last_layers: int, final_norm: bool) -> None:
    """All is frozen but the head, the norm and the last layers, and AdamW steps down the text's loss."""
    student, teacher = merged()
    text = TOKENS[:1].repeat(8, 1)  # every batch is the same, and so are the held-out tokens
    steps, lr = 3, 1e-3
    options = {**QUICK, "steps": steps, "lr": lr, "batch_tokens": 32, "check_every": 1, "warmup": 0.0}
    ours = recover(student, teacher, text, "partial", last_layers=last_layers, final_norm=final_norm, **options)

    theirs = copy.deepcopy(student.model)
    for parameter in theirs.parameters():
        parameter.requires_grad = False
    parts = [theirs.lm_head, *([theirs.model.norm] if final_norm else []), *theirs.model.layers[4 - last_layers :]]
    trained = [parameter for part in parts for parameter in part.parameters()]
    for parameter in trained:
        parameter.requires_grad = True
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        rate = lr if step == 0 else lr * 0.5 * (1 + math.cos(math.pi * (step - 1) / (steps - 1)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        theirs(text[:2], labels=text[:2]).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    expected = dict(theirs.named_parameters())
    for name, value in ours.bundle.model.named_parameters():
        torch.testing.assert_close(value, expected[name].detach(), rtol=1e-4, atol=1e-5)
    changed = {name for name, value in student.model.named_parameters() if not torch.equal(value, expected[name])}
    assert set(ours.plan.steps[-1].tensors) == changed
    assert ("model.norm.weight" in changed) == final_norm


def test_the_original_is_taken_as_a_control() -> None:
    teacher = tiny_bundle()
    tokens = TOKENS[:3].repeat(8, 1)
    result = recover(teacher, teacher, tokens, ["refit", "lora"], control=True, **QUICK | {"lr": 1e-2})
    assert come.perplexity(result.bundle, tokens) < come.perplexity(teacher, tokens)
    assert len(result.plan.steps) == 1
