"""Models speak as Transformers' own generation does, from the same random numbers, and stop when asked to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch

import come
from come.errors import ComeError
from come.models import Bundle
from come.serving.cancellation import Cancelled
from come.serving.playground import speech
from come.serving.playground.along import along
from come.serving.playground.playground import Pieces, choose, generate
from come.serving.playground.speech import End, Parting, Sampling, Start, Word, begins_at
from come.serving.whatif.question import Merge, Question
from come.serving.whatif.whatif import what_if
from tests.tiny import CASES, tiny_bundle, tiny_tokens

PROMPT = "def f(x):"


def models(family: str = "llama", method: str = "come") -> dict[str, Bundle]:
    original = tiny_bundle(family)
    pruned = come.compress(original, tiny_tokens(6, 16), method=method, target_layers=4).bundle
    return {"original": original, "pruned": pruned}


def written(said: list[object], model: str) -> list[int]:
    return [each.token for each in said if isinstance(each, Word) and each.model == model]


def by_transformers(bundle: Bundle, new_tokens: int) -> list[int]:
    ids = bundle.tokenizer(PROMPT, return_tensors="pt").input_ids
    found = bundle.model.generate(ids, do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
    return found[0, ids.shape[1] :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", CASES)
def test_greedy_tokens_are_those_of_transformers(family: str) -> None:
    speakers = models(family)
    said = list(generate(speakers, PROMPT, Sampling(new_tokens=12)))
    for name, bundle in speakers.items():
        assert written(said, name) == by_transformers(bundle, 12)


def test_it_begins_takes_turns_tells_where_they_part_and_ends() -> None:
    said = list(generate(models(), PROMPT, Sampling(new_tokens=8, top=3)))
    assert said[0] == Start(PROMPT, len(PROMPT), False)
    assert [each.model for each in said[1:3]] == ["original", "pruned"]  # type: ignore[union-attr]
    ours, theirs = written(said, "pruned"), written(said, "original")
    apart = next(i for i in range(8) if ours[i] != theirs[i])
    assert [each for each in said if isinstance(each, Parting)] == [
        Parting("pruned", apart, ours[apart], theirs[apart])
    ]
    for end in (each for each in said if isinstance(each, End)):
        assert end.tokens == len(written(said, end.model)) and (end.reason == "length") == (end.tokens == 8)
        assert end.text == "".join(e.text for e in said if isinstance(e, Word) and e.model == end.model)
        assert end.first_token > 0 and end.tokens_per_second > 0
    words = [each for each in said if isinstance(each, Word)]
    for word in words:
        assert len(word.top) == 3 and word.top[0][0] == word.token and word.top[0][2] == word.chance
    assert math.isnan(words[0].tokens_per_second)
    for each in said:
        assert str(speech.from_dict(speech.to_dict(each))) == str(each)  # nan is not equal to itself


def test_the_chance_is_the_models_own() -> None:
    bundle = tiny_bundle("qwen3")
    words = [
        each
        for each in generate({"original": bundle}, PROMPT, Sampling(new_tokens=5, temperature=3.0))
        if isinstance(each, Word)
    ]
    ids = torch.tensor([bundle.tokenizer(PROMPT).input_ids + [word.token for word in words]])
    with torch.inference_mode():
        chances = bundle.model(ids).logits[0].float().softmax(-1)
    for word in words:
        assert word.chance == pytest.approx(float(chances[len(PROMPT) + word.position - 1, word.token]), rel=1e-4)


def test_the_same_seed_says_the_same_and_another_something_else() -> None:
    speakers = models("mistral")

    def said(seed: int) -> list[int]:
        return written(list(generate(speakers, PROMPT, Sampling(temperature=1.0, top_p=0.9, seed=seed))), "pruned")

    assert said(1) == said(1) != said(2)
    alike: Mapping[str, Bundle] = {"original": tiny_bundle("mistral"), "same": tiny_bundle("mistral")}
    both = list(generate(alike, PROMPT, Sampling(temperature=1.0)))
    assert written(both, "original") == written(both, "same")
    assert not any(isinstance(each, Parting) for each in both)


def test_draws_follow_the_chances_within_top_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([choose(logits, Sampling(temperature=1.0), generator) for _ in range(4000)])
    assert torch.bincount(drawn, minlength=4).tolist() == pytest.approx([2000, 1200, 600, 200], rel=0.15)
    few = {choose(logits, Sampling(temperature=1.0, top_p=0.8), generator) for _ in range(200)}
    assert few == {0, 1}
    assert {choose(logits, Sampling(temperature=1.0, top_p=0.01), generator) for _ in range(20)} == {0}
    assert {choose(logits, Sampling(), generator) for _ in range(20)} == {0}


def test_a_model_that_ends_its_text_stops_there() -> None:
    bundle = tiny_bundle()
    fifth = by_transformers(bundle, 5)[-1]
    first = by_transformers(bundle, 5).index(fifth)
    bundle.model.generation_config.eos_token_id = [2, fifth]
    said = list(generate({"original": bundle}, PROMPT, Sampling(new_tokens=12)))
    assert isinstance(said[-1], End) and (said[-1].reason, said[-1].tokens) == ("stop", first + 1)


def test_it_ends_when_nobody_listens() -> None:
    looks = iter([False] * 5 + [True])
    said = []
    with pytest.raises(Cancelled):
        for each in generate(models(), PROMPT, cancelled=lambda: next(looks)):
            said.append(each)
    assert len([each for each in said if isinstance(each, Word)]) == 5


def test_the_chat_template_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    with pytest.raises(ComeError, match="no chat template"):
        list(generate({"original": bundle}, PROMPT, chat=True))
    template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    monkeypatch.setattr(bundle.tokenizer, "chat_template", template)
    start = next(generate({"original": bundle}, PROMPT))
    assert start == Start(f"[user]{PROMPT}[a]", len(f"[user]{PROMPT}[a]"), True)
    assert next(generate({"original": bundle}, PROMPT, chat=False)) == Start(PROMPT, len(PROMPT), False)


@pytest.mark.parametrize(("prompt", "words"), [("  ", "empty"), ("x" * 250, "reads at once")])
def test_prompts_that_cannot_be_are_refused(prompt: str, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        list(generate({"original": tiny_bundle()}, prompt))


def test_a_character_of_several_tokens_appears_with_the_last_of_them() -> None:
    class Bytes:
        def decode(self, ids: list[int], **_: object) -> str:
            return bytes(ids).decode(errors="replace")

    pieces = Pieces(Bytes())
    assert [pieces.add(byte) for byte in "aé€!".encode()] == ["a", "", "é", "", "", "€", "!"]
    assert pieces.text == "aé€!"


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_along_a_text_the_divergence_is_that_of_the_evaluation(family: str) -> None:
    speakers = models(family)
    tokens = tiny_tokens(1, 40, seed=5)
    found = along(speakers, tokens[0].tolist(), at=7, top=4)
    expected = come.kl_divergence(speakers["pruned"], speakers["original"], tokens)
    assert sum(found.kl["pruned"][:-1]) / 39 == pytest.approx(expected, rel=1e-4)
    assert len(found.kl["pruned"]) == len(found.pieces) == 40 and set(found.kl) == {"pruned"}
    for name, bundle in speakers.items():
        with torch.inference_mode():
            chances = bundle.model(tokens).logits[0].float().softmax(-1)
        given = chances[:-1].gather(-1, tokens[0, 1:, None])[:, 0]
        assert list(found.chances[name]) == pytest.approx(given.tolist(), rel=1e-3)
        assert [token for token, _, _ in found.top[name]] == chances[7].topk(4).indices.tolist()
    assert "".join(found.pieces) == speakers["original"].tokenizer.decode(tokens[0])


def test_along_a_text_opens_where_a_model_departs_most_since_some_words() -> None:
    speakers = models()
    tokens = tiny_tokens(1, 40, seed=5)[0].tolist()
    whole = along(speakers, tokens)
    assert whole.at == 39, "the last token where nothing else is said"
    words = "".join(whole.pieces[20:])
    found, kl = along(speakers, tokens, since=words), whole.kl["pruned"]
    first = begins_at(whole.pieces, words)
    assert 0 < first <= 20 and found.at == first + kl[first:].index(max(kl[first:]))
    assert found.kl == whole.kl and found.top == along(speakers, tokens, at=found.at).top
    assert along(speakers, tokens, since="not in it").at == kl.index(max(kl))
    assert along(speakers, tokens, at=3, since=words).at == 3
    assert along({"original": speakers["original"]}, tokens, since=words).at == 39, "nobody departs from itself"


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
@pytest.mark.parametrize("method", ["come", "shortgpt"])
def test_along_a_text_angles_are_those_of_the_states_by_layer(family: str, method: str) -> None:
    speakers = models(family, method)
    tokens = tiny_tokens(1, 20, seed=5)
    found = along(speakers, tokens[0].tolist())
    plan = speakers["pruned"].plan
    assert plan is not None
    groups = plan.groups()
    ours, theirs = (_after_layers(bundle, tokens) for bundle in speakers.values())
    assert len(found.angles["pruned"]) == len(groups) == len(theirs) == 4
    for layer, (first, end) in enumerate(found.spans["pruned"]):
        assert groups[layer][0] >= first and groups[layer][-1] < end
        cosines = torch.nn.functional.cosine_similarity(ours[end - 1].double(), theirs[layer].double(), dim=-1)
        expected = cosines.clamp(-1, 1).arccos().rad2deg()
        assert list(found.angles["pruned"][layer]) == pytest.approx(expected.tolist(), abs=0.02)
    assert found.spans["pruned"][-1][1] == 6


def test_a_model_beside_itself_departs_nowhere() -> None:
    original = tiny_bundle()
    found = along({"original": original, "same": original}, [5, 6, 7])
    assert found.angles["same"] == ((0.0,) * 3,) * 6


def _after_layers(bundle: Bundle, tokens: torch.Tensor) -> list[torch.Tensor]:
    """The hidden states after each layer, (tokens, hidden_size), by hooks on the whole model."""
    seen: list[torch.Tensor] = []

    def hook(_module: object, _args: object, output: object) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output)[0].float())  # type: ignore[index]

    layers = bundle.model.get_submodule(bundle.family.layers)
    handles = [layer.register_forward_hook(hook) for layer in layers]  # type: ignore[union-attr]
    with torch.inference_mode():
        bundle.model(tokens)
    for handle in handles:
        handle.remove()
    return seen


def test_texts_that_cannot_be_are_refused() -> None:
    bundle = {"original": tiny_bundle()}
    for tokens, at, words in (([], None, "empty"), ([5] * 300, None, "reads at once"), ([5, 6], 2, "no token 2")):
        with pytest.raises(ComeError, match=words):
            along(bundle, tokens, at=at)


def test_edited_models_speak_too() -> None:
    original = tiny_bundle()
    edited = what_if(original, tiny_tokens()).build(Question(merges=(Merge(first=1, last=3, how="average"),)))
    said = list(generate({"original": original, "edited": edited}, PROMPT, Sampling(new_tokens=6)))
    assert written(said, "edited") == by_transformers(edited, 6)
