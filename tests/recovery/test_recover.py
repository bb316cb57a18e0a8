"""The request itself: chains, options, and what cannot be done."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from come.errors import ComeError
from come.events import Event
from come.models import Bundle
from come.plan.plan import Span, spans_of
from come.recovery.recover import recover
from come.recovery.registry import parse, ways
from tests.recovery.pruned import TOKENS, merged, same_weights, without
from tests.tiny import tiny_bundle, tiny_tokenizer

QUICK: dict[str, Any] = {"steps": 6, "lr": 1e-3, "batch_tokens": 64, "check_every": 2, "precision": "float32"}


def test_every_way_says_what_it_is() -> None:
    known = ways()
    assert list(known) == ["refit", "distill-mp", "distill-sp", "logits", "on-policy", "lora", "partial", "grow"]
    for way in known.values():
        assert way.title and way.summary.endswith(".") and way.cost.endswith(".")
        assert way.defaults()


def test_a_chain_is_its_parts_one_after_the_other() -> None:
    student, teacher = merged()
    shares: list[float] = []

    def watch(event: Event) -> None:
        shares.append(event.step / event.of)

    chained = recover(student, teacher, TOKENS, ["refit", "distill-mp", "logits"], on_progress=watch, **QUICK)
    first = recover(student, teacher, TOKENS, "refit")
    second = recover(first.bundle, teacher, TOKENS, "distill-mp", **QUICK)
    third = recover(second.bundle, teacher, TOKENS, "logits", **QUICK)
    assert same_weights(chained.bundle, third.bundle)
    assert len(chained.plan.steps) == len(student.plan.steps) + 1
    assert len(third.plan.steps) == len(student.plan.steps) + 3
    assert chained.plan.steps[-1].made_by == "refit + distill-mp + logits"
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert same_weights(recover(student, teacher, TOKENS, "refit, distill-mp, logits", **QUICK).bundle, chained.bundle)


def test_default_stands_for_what_gives_back_most() -> None:
    assert [way.name for way, _ in parse("default", {})] == ["refit", "logits"]
    assert [way.name for way, _ in parse(["default", "partial"], {})] == ["refit", "logits", "partial"]


def test_options_go_where_they_belong() -> None:
    ((_, refit), (_, logits)) = parse(["refit", "logits"], {"lr": 1e-3, "logits.steps": 7, "maps": "both"})
    assert (refit.maps, logits.lr, logits.steps) == ("both", 1e-3, 7)
    for options, words in (
        ({"lrr": 1}, "Did you mean lr"),
        ({"logits.stepps": 1}, "Did you mean logits.steps"),
        ({"distill-mp.lr": 1}, "no option"),
    ):
        with pytest.raises(ComeError, match=words):
            parse(["refit", "logits"], options)
    with pytest.raises(ComeError, match="Did you mean logits"):
        parse("logit", {})
    with pytest.raises(ComeError, match="No way"):
        parse([], {})


def test_what_layers_stand_for() -> None:
    teacher = tiny_bundle()
    assert spans_of(without(teacher, 0, 3).plan) == [Span(0, 0, 2), Span(1, 2, 4), Span(2, 4, 5), Span(3, 5, 6)]
    assert spans_of(without(teacher, 4, 5).plan)[-1] == Span(3, 3, 6)


def test_nothing_to_recover() -> None:
    teacher = tiny_bundle()
    with pytest.raises(ComeError, match="nothing to recover"):
        recover(teacher, teacher, TOKENS)


def test_another_teacher_is_refused() -> None:
    student, teacher = merged()
    for other in (tiny_bundle(layers=5), tiny_bundle("qwen3"), tiny_bundle(hidden_size=64)):
        with pytest.raises(ComeError, match="not the model that this one was pruned from") as caught:
            recover(student, other, TOKENS)
        assert "\n" not in str(caught.value)

    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {**tiny_tokenizer().get_vocab(), "new": 200}

    strange = Bundle(teacher.model, Other(), teacher.family, teacher.source)
    with pytest.raises(ComeError, match="another tokenizer"):
        recover(student, strange, TOKENS)


def test_tokens_must_be_held_out() -> None:
    student, teacher = merged()
    with pytest.raises(ComeError, match="no tokens to hold out"):
        recover(student, teacher, TOKENS[:1])


def test_a_teacher_in_another_dtype_is_welcome() -> None:
    student, _ = merged()
    teacher = tiny_bundle()
    teacher.model.to(torch.bfloat16)
    for how in ("refit", "distill-mp", "distill-sp", "logits", "on-policy"):
        result = recover(student, teacher, TOKENS, how, **({} if how == "refit" else QUICK))
        assert result.bundle.dtype == torch.float32
