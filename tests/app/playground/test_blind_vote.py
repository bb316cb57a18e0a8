"""The blind vote: a fair order that stays, a vote a round, tallies with honest intervals, nothing told before."""

from __future__ import annotations

import csv
import io
import math

import pytest

from app.playground import blind_round
from app.playground.generation import Asked, Generation
from app.playground.vote import ENOUGH, TIE, A, B, BlindVote, Round, Tally, in_words, wilson
from come.serving.playground.speech import End, Sampling, Word

PAIR = ("original", "run-1")
NAMES = {"original": "Original", "run-1": "CoMe, 24 layers", "run-2": "<ShortGPT>"}


def generation(
    prompt: str = "Hi", texts: tuple[str, str, str] = ("alpha", "beta", "gamma"), **sampling: object
) -> Generation:
    """Two pruned models and the original, who have answered."""
    plans = {"run-1": "1.json", "run-2": "2.json"}
    made = Generation(Asked("m", prompt, plans, NAMES, Sampling(**sampling)))  # type: ignore[arg-type]
    for name, text, rate in zip(("original", "run-1", "run-2"), texts, (9.0, 14.0, 20.0), strict=True):
        made.add(Word(name, 0, 5, text, 0.9, ((5, text, 0.9),), math.nan))
        made.add(End(name, "length", 1, text, 0.1, rate))
    made.status = "done"
    return made


def voted(votes: BlindVote, prompt: str, choice: str, pair: tuple[str, str] = PAIR) -> Round:
    current = votes.begin(generation(prompt), pair)
    votes.vote(choice)
    return current


def for_speaker(votes: BlindVote, prompt: str, speaker: str, pair: tuple[str, str] = PAIR) -> None:
    current = votes.begin(generation(prompt), pair)
    votes.vote(A if current.behind[0] == speaker else B)


def test_the_order_is_drawn_by_chance_and_stays() -> None:
    orders = [BlindVote(f"visit {number}").begin(generation(), PAIR).behind for number in range(200)]
    assert 70 <= orders.count(PAIR) <= 130 and set(orders) == {PAIR, PAIR[::-1]}
    votes = BlindVote("one")
    within = [votes.begin(generation(str(number)), PAIR).behind for number in range(200)]
    assert 70 <= within.count(PAIR) <= 130
    again = BlindVote("one")
    assert [again.begin(generation(str(number)), PAIR[::-1]).behind for number in range(3)] != []
    assert BlindVote("one").begin(generation(), PAIR).behind == within[0]


def test_before_the_vote_the_page_is_the_same_whoever_is_a() -> None:
    said = generation(texts=("first <b>", "second", ""))
    one, other = (blind_round.cards(Round(said, behind)) for behind in (PAIR, PAIR[::-1]))
    swapped = one.replace("first &lt;b&gt;", "@").replace("second", "first &lt;b&gt;").replace("@", "second")
    assert one != other and swapped == other
    for secret in ("Original", "CoMe", "run-1", "original", "tokens/s", "9.0", "14.0"):
        assert secret not in one
    named = Round(said, PAIR, voted=A)
    assert "Original" in blind_round.cards(named) and "CoMe, 24 layers" in blind_round.cards(named)
    assert "No words" in blind_round.cards(Round(said, ("run-2", "original")))


def test_a_round_takes_one_vote_when_both_have_answered() -> None:
    votes = BlindVote("one")
    current = votes.begin(generation(), PAIR)
    current.generation.status = "working"
    votes.vote(A)
    assert not current.voted
    current.generation.status = "done"
    votes.vote(A)
    votes.vote(B)
    assert current.voted == A and len(votes.voted) == 1
    assert current.preferred == current.behind[0]


def test_what_is_known_by_its_name_is_not_voted_on() -> None:
    votes = BlindVote("one")
    voted(votes, "Hi", TIE)
    assert votes.knows(generation("Hi").asked, PAIR) and votes.knows(generation("Hi").asked, ("run-1", "run-2"))
    assert not votes.knows(generation("Hi").asked, ("run-2",)), "it was not shown"
    assert not votes.knows(generation("Ho").asked, PAIR)
    assert votes.knows(generation("Hi", seed=5, new_tokens=8).asked, PAIR), "greedy answers know no seed"
    assert not votes.knows(generation("Hi", temperature=0.7, seed=5).asked, PAIR)
    current = votes.begin(generation("Ho"), PAIR)
    votes.note(generation("Ho"), ["original"])  # looked up side by side meanwhile
    votes.vote(B)
    assert not current.voted and len(votes.voted) == 1
    assert votes.has_read("Ho") and not votes.has_read("Hu")


def test_votes_are_counted_by_pair_whatever_its_order() -> None:
    votes = BlindVote("one")
    for number in range(3):
        for_speaker(votes, f"a{number}", "run-1", PAIR if number % 2 else PAIR[::-1])
    for_speaker(votes, "b", "original")
    voted(votes, "c", TIE)
    for_speaker(votes, "d", "run-2", ("run-1", "run-2"))
    latest, first = votes.tallies()
    assert (latest.names, latest.wins, latest.ties) == (("CoMe, 24 layers", "<ShortGPT>"), (0, 1), 0)
    assert first.speakers == ("run-1", "original"), "as they were first chosen"
    assert (first.wins, first.ties, first.votes, first.decided) == ((3, 1), 1, 5, 4)
    assert "&lt;ShortGPT&gt;" in blind_round.bar(latest) and "<ShortGPT>" not in blind_round.bar(latest)


@pytest.mark.parametrize(
    ("wins", "votes", "interval"),  # figures of Wilson (1927), as R's binom.confint(methods="wilson") has them
    [(8, 10, (0.4901625, 0.9433178)), (0, 10, (0.0, 0.2775328)), (10, 10, (0.7224672, 1.0)), (1, 1, (0.2065493, 1.0))],
)
def test_wilsons_interval(wins: int, votes: int, interval: tuple[float, float]) -> None:
    assert wilson(wins, votes) == pytest.approx(interval, abs=1e-6)


@pytest.mark.parametrize(
    ("wins", "ties", "words"),
    [
        ((1, 0), 0, "1 vote: 1 for X, 0 for Y. An interval is given from 10 decided votes on; there are 1."),
        ((5, 4), 7, "16 votes: 5 for X, 4 for Y. 7 could not tell. An interval is given from 10 decided votes on"),
        ((8, 2), 0, "X has 80% of the decided votes (95% interval 49% to 94%): no clear preference"),
        ((9, 1), 1, "(95% interval 60% to 98%): X is preferred."),
        ((1, 9), 0, "Y is preferred."),
    ],
)
def test_a_tally_in_words(wins: tuple[int, int], ties: int, words: str) -> None:
    tally = Tally(("x", "y"), ("X", "Y"), wins, ties)
    assert words in in_words(tally)
    assert (tally.interval is None) == (sum(wins) < ENOUGH)


def test_the_votes_as_a_table() -> None:
    votes = BlindVote("one")
    for_speaker(votes, 'A, "b"', "run-1")
    voted(votes, "Hu", TIE)
    first, second = csv.DictReader(io.StringIO(votes.to_csv()))
    assert (first["prompt"], first["preferred"], first["vote"]) == ('A, "b"', "CoMe, 24 layers", "1")
    assert first[f"model_{first['voted'].lower()}"] == "CoMe, 24 layers"
    answers = {first["model_a"]: first["answer_a"], first["model_b"]: first["answer_b"]}
    assert answers == {"Original": "alpha", "CoMe, 24 layers": "beta"}
    assert (second["voted"], second["preferred"], second["temperature"]) == ("tie", "", "0.0")
