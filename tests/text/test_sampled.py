"""What a model says itself: its own predictions, exactly; kept; and who is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.events import Event
from come.models import Bundle
from come.text import SELF, describe_text, known_texts, mix, read, sampled, text_hash
from come.text.sampled import PROMPT_TOKENS
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokenizer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def said(bundle: Any, sequences: int = 4, seq_len: int = 24, seed: int = 0, **more: Any) -> Tensor:
    return come.tokens(bundle, SELF, sequences * seq_len, seq_len, seed=seed, **more)


def test_it_is_packed_like_any_other_text() -> None:
    tokens = come.tokens(tiny_bundle(), SELF, 100, 24)
    assert (tokens.shape, tokens.dtype, tokens.device.type) == ((4, 24), torch.int64, "cpu")
    assert not tokens.is_inference(), "a recovery trains on it"
    assert tokens.min() >= 0 and tokens.max() < len(tiny_tokenizer())


@pytest.mark.parametrize("family", CASES)
def test_every_token_is_drawn_from_the_models_own_predictions(family: str) -> None:
    bundle = tiny_bundle(family, layers=4)
    tokens = said(bundle)
    plan, draws = sampled._planned(bundle.tokenizer, 4, 24, seed=0)
    with torch.no_grad():
        logits = bundle.model(tokens, use_cache=False).logits[..., : len(bundle.tokenizer)].double()
    sums = logits.softmax(-1).cumsum(-1)[:, :-1]
    # The draw lies between what is summed up before the token and with it, but for rounding with and without a cache.
    behind = sums.gather(-1, tokens[:, 1:, None])[..., 0]
    before = behind - logits.softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    free = torch.ones_like(tokens, dtype=torch.bool)
    free[:, : plan.shape[1]] = plan == sampled.FREE
    fits = (before - 1e-4 <= draws[:, 1:]) & (draws[:, 1:] <= behind + 1e-4)
    assert fits[free[:, 1:]].all()
    assert torch.equal(tokens[:, : plan.shape[1]][plan != sampled.FREE], plan[plan != sampled.FREE])


def test_tokens_come_as_often_as_they_are_likely() -> None:
    logits = torch.randn(1, 7)
    draws = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    drawn = sampled._drawn(logits.expand(len(draws), -1), draws)
    shares = torch.bincount(drawn, minlength=7) / len(draws)
    assert torch.allclose(shares, logits.softmax(-1)[0], atol=2e-5)
    ends = sampled._drawn(
        torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(2, -1), torch.tensor([0.0, 1.0]).double()
    )
    assert ends.tolist() in ([1, 1], [1, 2]) and ends[0] == 1, "what has no chance is not drawn"


def test_sequences_begin_as_the_model_does_and_every_other_one_with_a_prompt() -> None:
    bundle = tiny_bundle()
    tokens, pieces = said(bundle, 8), [piece for _, piece in mix.pieces("calibration")]
    assert (tokens[:, 0] == bundle.tokenizer.bos_token_id).all()
    prompts = ["".join(bundle.tokenizer.decode([token]) for token in row[1 : 1 + PROMPT_TOKENS]) for row in tokens]
    assert [any(piece.startswith(prompt) for piece in pieces) for prompt in prompts] == [False, True] * 4


@pytest.mark.parametrize(("left", "first"), [({"bos_token"}, 2), ({"bos_token", "eos_token"}, None)])
def test_without_a_start_of_text_it_takes_the_end_or_a_prompt(left: set[str], first: int | None) -> None:
    tokenizer = type(tiny_tokenizer())(
        tokenizer_object=tiny_tokenizer().backend_tokenizer,
        **{name: value for name, value in {"bos_token": "<s>", "eos_token": "</s>"}.items() if name not in left},
    )
    bundle = tiny_bundle()
    bundle.tokenizer = tokenizer
    begins = said(bundle)[:, 0].tolist()
    assert begins == [first] * 4 if first is not None else set(begins).isdisjoint({1, 2})


def test_the_seed_and_the_model_decide_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tiny_bundle()
    first = said(bundle)
    assert not torch.equal(first, said(bundle, seed=1))
    assert not torch.equal(first, said(tiny_bundle(seed=1)))
    monkeypatch.setattr(sampled.settings, "home", lambda: tmp_path / "of another")  # nothing is kept there
    assert torch.equal(first, said(bundle))
    assert torch.equal(first, said(bundle, 6)[:4]), "more of it begins the same"
    monkeypatch.setattr(sampled, "AT_ONCE", 3)
    assert torch.equal(first, said(bundle)), "how many are written side by side changes nothing but rounding"


def test_it_is_said_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    first = said(bundle)
    assert len(list((home / "sampled").iterdir())) == 1
    monkeypatch.setattr(sampled, "write", lambda *_: pytest.fail("said again"))
    assert torch.equal(first, said(bundle))
    assert torch.equal(first, said(tiny_bundle())), "the weights count, not who loaded them"


def test_half_written_files_are_written_anew(home: Path) -> None:
    first = said(tiny_bundle())
    (kept,) = (home / "sampled").iterdir()
    kept.write_bytes(kept.read_bytes()[:20])
    assert torch.equal(first, said(tiny_bundle()))
    assert torch.equal(first, said(tiny_bundle()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_known_by_its_dtype(dtype: torch.dtype, home: Path) -> None:
    bundle = tiny_bundle()
    said(bundle)
    bundle.model.to(dtype)
    said(Bundle(bundle.model, bundle.tokenizer, bundle.family, bundle.source))
    assert len(list((home / "sampled").iterdir())) == 2


def test_its_progress_is_told_and_can_be_broken_off(home: Path) -> None:
    told: list[Event] = []
    said(tiny_bundle(), on_progress=told.append)
    assert {(event.stage, event.of) for event in told} == {("text", 96)}
    assert [event.step for event in told] == [0, 32, 64, 96]

    def stop(event: Event) -> None:
        if event.step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        said(tiny_bundle(), seed=5, on_progress=stop)
    assert len(list((home / "sampled").iterdir())) == 1


def test_predictions_that_are_no_numbers_are_refused() -> None:
    bundle = tiny_bundle()
    bundle.model.lm_head.weight.data[:] = torch.nan
    with pytest.raises(ComeError, match=r"weights are not numbers, first of all in lm_head\.weight"):
        said(bundle)
    bundle.model.lm_head.weight.data[:] = torch.inf
    with pytest.raises(ComeError, match=r"first of all in lm_head\.weight, overflow in float32"):
        said(bundle)


def test_who_has_no_model_or_not_all_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComeError, match="tokenizer alone says nothing"):
        said(tiny_tokenizer())
    folder = tiny_folder(tmp_path)
    offloaded = come.load(folder, device="balanced", max_memory={"cpu": "60KB"})
    with pytest.raises(ComeError, match="partly outside of memory"):
        said(offloaded)


def test_nothing_is_judged_on_it() -> None:
    with pytest.raises(ComeError, match="nothing can be judged") as raised:
        come.tokens(tiny_bundle(), SELF, 96, 24, split="evaluation")
    assert "mix" in raised.value.hint
    for ask in (read, describe_text, text_hash):
        with pytest.raises(ComeError, match="sampled from a model"):
            ask(SELF)
    assert [each.name for each in known_texts() if each.where == "model"] == [SELF]


def test_what_is_too_long_or_too_short_is_refused_as_of_any_text() -> None:
    with pytest.raises(ComeError, match="longer than the 256"):
        come.tokens(tiny_bundle(), SELF, 300, 300)
    with pytest.raises(ComeError, match="do not fill"):
        come.tokens(tiny_bundle(), SELF, 10, 24)
