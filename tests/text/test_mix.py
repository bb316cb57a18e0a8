"""The mix: several kinds in turn, the same each time, and no text in two parts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

import come.evaluate
from come.models import load
from come.text import known_texts, mix, read, tokens
from come.text.documents import Split
from come.text.prose import RUN, apart_from, is_prose, once, paragraphs, prose, runs_of_words
from come.text.python_docs import python_docs
from tests.tiny import tiny_tokenizer

PARTS: tuple[Split, ...] = ("calibration", "evaluation")
QUESTIONS = Path(come.evaluate.__file__).parent / "questions"


def test_it_is_known_and_has_parts_of_its_own() -> None:
    assert next(each for each in known_texts() if each.name == "mix").where == "bundled"
    calibration, evaluation = read("mix"), read("mix", "evaluation")
    assert 300_000 < len(calibration) < 2_000_000
    assert 50_000 < len(evaluation) < 500_000


@pytest.mark.parametrize("part", PARTS)
def test_a_few_pieces_hold_several_kinds(part: Split) -> None:
    kinds = [kind for kind, _ in mix.pieces(part)]
    # Licences say much the same: by what is installed, there may be none that calibration has not had.
    own_words = {"licences"} if part == "calibration" or "licences" in kinds else set()
    assert set(kinds) == {"reference", "encyclopaedia", "documentation", "code"} | own_words
    assert all(len(set(kinds[at : at + 8])) >= 4 for at in range(len(kinds) - 8))
    for kind, piece in mix.pieces(part):
        assert mix.PIECE <= len(piece) < mix.PIECE + mix.LONGEST + 100, kind


def test_no_kind_owns_it() -> None:
    sizes = Counter[str]()
    for kind, piece in mix.pieces("calibration"):
        sizes[kind] += len(piece)
    assert max(sizes.values()) <= 1.05 * mix.MOST["calibration"]
    assert min(sizes.values()) > 0.2 * max(sizes.values())


def test_it_is_the_same_when_it_is_made_again() -> None:
    before = read("mix"), read("mix", "evaluation")
    for cached in (mix.pieces, mix._kinds, mix._packages):
        cached.cache_clear()
    assert (read("mix", "evaluation"), read("mix"))[::-1] == before


def test_without_the_factbook_the_other_kinds_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mix, "FACTBOOK", "no-such-package")
    assert list(mix._encyclopaedia()) == []
    assert mix._in_turn({"a": [], "b": ["one", "two"]}) == [("b", "one"), ("b", "two")]
    assert list(mix._shortened([], 10)) == []


def test_its_parts_share_no_run_of_words() -> None:
    assert runs_of_words(read("mix")).isdisjoint(runs_of_words(read("mix", "evaluation")))


def test_no_question_that_accuracy_is_measured_on_stands_in_it() -> None:
    asked = [json.loads(line)["question"] for path in QUESTIONS.glob("*.jsonl") for line in path.open()]
    there = {run for part in PARTS for run in runs_of_words(read("mix", part))}
    long = [question for question in asked if len(question.split()) >= RUN]
    assert len(long) > 100
    assert all(there.isdisjoint(runs_of_words(question)) for question in long)


def _splitting_at(pattern: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    return tokenizer


# Tokens of one character, whole words, and words with every other character by itself.
@pytest.mark.parametrize("pattern", [r"[\s\S]", r"\S+", r"\w+|[\s\S]"])
def test_it_shares_nothing_with_the_other_part_of_the_language_reference(pattern: str) -> None:
    _apart(_splitting_at(pattern))


@pytest.mark.slow
def test_it_shares_nothing_by_the_bundled_models_tokens_either() -> None:
    _apart(load("smollm2-135m").tokenizer.backend_tokenizer)


def _apart(tokenizer: Tokenizer) -> None:
    whole = python_docs()
    offsets = tokenizer.encode(whole, add_special_tokens=False).offsets
    border = offsets[len(offsets) * 4 // 5][0]  # as `tokens` cuts it
    assert mix.CALIBRATION_ENDS * len(whole) < border < mix.EVALUATION_BEGINS * len(whole)
    assert runs_of_words(read("mix")).isdisjoint(runs_of_words(whole[border:]))
    assert runs_of_words(read("mix", "evaluation")).isdisjoint(runs_of_words(whole[:border]))
    assert runs_of_words(read("mix")) & runs_of_words(whole[:border]), "else nothing of it would be there at all"


@pytest.mark.parametrize("part", PARTS)
def test_tokens_are_of_the_part_that_is_asked_for(part: Split) -> None:
    drawn = tokens(tiny_tokenizer(), "mix", 400, 400, split=part)[0]
    text = "".join(tiny_tokenizer().decode([token]) for token in drawn).replace("<unk>", "")
    assert text in re.sub(r"[^ -~\n]", "", read("mix", part))


PROSE = (
    "Concatenation keeps the channels of each layer that matter most for what the model has to say about the text, "
    "and so the new layer is as wide as those that it was made of."
)


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        (PROSE, True),
        (PROSE.replace(", ", ",\n"), True),
        (PROSE.replace("layer that", "layer, déjà vu, that"), True),
        (f"    {PROSE}", False),  # a block of code
        (f">>> {PROSE}", False),
        (f"| {PROSE} |", False),
        (f"<p>{PROSE}</p>", False),
        (f".. note:: {PROSE}", False),
        (PROSE.replace("e", "é"), False),
        (PROSE.rstrip("."), False),  # torn, or a heading
        ("alpha, beta, gamma, delta, epsilon, zeta, eta, theta, iota, kappa, lambda, mu, nu, xi, pi, rho, tau.", False),
        ("x = [1, 2, 3]; y = {4: 5}; for a in the_list: print(a, b, 'is', 7.5, 8.5, 9.5, 10.5, 11, 12);", False),
        ("A short one.", False),
    ],
)
def test_prose_is_told_from_the_rest(paragraph: str, expected: bool) -> None:
    assert is_prose(paragraph) is expected


def test_links_and_badges_go() -> None:
    text = f"[![build](https://a.b/c.svg)](https://a.b)\n\nSee [the guide](https://a.b/c). {PROSE}\n\n```\ncode\n```\n"
    assert list(prose(text)) == [f"See the guide. {PROSE}"]
    text = f"See `the guide <https://a.b>`_ and :func:`~a.b`. {PROSE}"
    assert list(prose(text)) == [f"See the guide and `a.b`. {PROSE}"]


def test_what_stands_in_two_places_is_kept_once() -> None:
    documents = [[PROSE, "Another text."], ["ANOTHER, text"], [f"{PROSE} More.", "A third one."]]
    assert list(once(documents)) == [[PROSE, "Another text."], ["A third one."]]


def test_a_run_of_words_is_enough_to_leave_a_paragraph_out() -> None:
    words = [f"w{number}" for number in range(3 * RUN)]
    others = runs_of_words(" ".join(words))
    shared, apart = (f"before {' '.join(words[5 : 5 + count])} behind" for count in (RUN, RUN - 1))
    assert list(apart_from([[shared, apart]], others)) == [[apart]]
    halves = [" ".join(words[: RUN - 3]), " ".join(words[RUN - 3 : RUN + 3])]  # only together they are too long
    assert list(apart_from([halves], others)) == [halves[:1]]
    assert list(apart_from([[each] for each in halves], others)) == [halves[:1]]


def test_paragraphs_keep_their_indentation() -> None:
    assert list(paragraphs("one\r\n  two\r\n \r\n\r\n    three\n\n")) == ["one\n  two", "    three"]
