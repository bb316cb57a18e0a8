"""A blind vote between two models: in which order they are shown, what was voted, and how sure a tally is of it.

Until a round is voted on, nothing here tells which model wrote which answer but ``Round.behind``.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.playground.generation import Answer, Asked, Generation

A, B, TIE = "A", "B", "tie"
LEVEL = 0.95
ENOUGH = 10  # decided votes, from which on an interval is given: below that it spans nearly everything
FIELDS = (
    "vote",
    "model",
    "model_a",
    "model_b",
    "voted",
    "preferred",
    "prompt",
    "chat_template",
    "temperature",
    "top_p",
    "seed",
    "new_tokens",
    "answer_a",
    "answer_b",
)


@dataclass
class Round:
    """One prompt put to two models.

    Attributes:
        generation: their answers.
        behind: the speakers behind A and B.
        voted: "A", "B" or "tie"; "" as long as it is open.
    """

    generation: Generation
    behind: tuple[str, str]
    voted: str = ""

    def answer(self, letter: str) -> Answer:
        """The answer shown under a letter."""
        return self.generation.answers[self.behind[letter == B]]

    def name(self, letter: str) -> str:
        """Who wrote it; to be shown after the vote only."""
        return self.generation.asked.names[self.behind[letter == B]]

    @property
    def alike(self) -> bool:
        """Whether both wrote the same words, so that there is nothing to prefer."""
        return self.answer(A).text.strip() == self.answer(B).text.strip()

    @property
    def preferred(self) -> str:
        """The speaker that was voted for; "" for a tie, and before the vote."""
        return self.behind[self.voted == B] if self.voted in (A, B) else ""


@dataclass(frozen=True)
class Tally:
    """The votes on one pair of models.

    Attributes:
        speakers, names: of the two, in the order in which they were first chosen.
        wins: of each. ties: votes that could not tell.
        methods: which made them, by run id.
    """

    speakers: tuple[str, str]
    names: tuple[str, str]
    wins: tuple[int, int]
    ties: int
    methods: dict[str, str] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """Votes for either of them."""
        return sum(self.wins)

    @property
    def votes(self) -> int:
        """All votes."""
        return self.decided + self.ties

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the share of decided votes for the first, in truth; None for too few votes."""
        return wilson(self.wins[0], self.decided) if self.decided >= ENOUGH else None


@dataclass
class BlindVote:
    """The votes of one visit.

    Attributes:
        seed: draws the orders.
        begun: how many rounds there were, whatever became of them.
        round: the newest.
        voted: all that were voted on, with the pair in the order it was chosen in.
        named: answers that were shown with their model's name, as ``_known_by``.
    """

    seed: str
    begun: int = 0
    round: Round | None = None
    voted: list[tuple[tuple[str, str], Round]] = field(default_factory=list)
    named: set[tuple[str, str]] = field(default_factory=set)
    _pair: tuple[str, str] = ("", "")

    def begin(self, generation: Generation, pair: tuple[str, str]) -> Round:
        """Open a round; the order of the two is drawn once and stays."""
        self.end()
        first, second = random.Random(f"{self.seed}:{self.begun}").sample(pair, 2)
        self.begun += 1
        self.round, self._pair = Round(generation, (first, second)), pair
        return self.round

    def end(self) -> None:
        """Put the round away; what is still being said is stopped."""
        if self.round is not None:
            self.round.generation.stop()
        self.round = None

    def vote(self, choice: str) -> None:
        """Vote on the open round, once; an answer that is known by its name by now is no blind one."""
        held = self.round
        if (
            held is None
            or held.voted
            or held.generation.status != "done"
            or self.knows(held.generation.asked, held.behind)
        ):
            return
        held.voted = choice
        self.voted.append((self._pair, held))
        self.note(held.generation, held.behind)

    def note(self, generation: Generation, speakers: Sequence[str]) -> None:
        """Say that answers are shown with the names of their models."""
        self.named |= {
            _known_by(generation.asked, speaker) for speaker in speakers if generation.answers[speaker].words
        }

    def knows(self, asked: Asked, speakers: Sequence[str]) -> bool:
        """Whether one of these answers was shown with its model's name: it might be recognised."""
        return any(_known_by(asked, speaker) in self.named for speaker in speakers)

    def has_read(self, prompt: str) -> bool:
        """Whether any answer to a prompt was shown with a name."""
        return any(known == prompt for known, _ in self.named)

    def tallies(self) -> list[Tally]:
        """The votes by pair of models, the pair voted on last first."""
        pairs: dict[tuple[str, frozenset[str]], list[tuple[tuple[str, str], Round]]] = {}
        for pair, held in reversed(self.voted):
            pairs.setdefault((held.generation.asked.model, frozenset(pair)), []).append((pair, held))
        return [_counted(each) for each in pairs.values()]

    def to_csv(self) -> str:
        """One line a vote, in their order."""
        out = io.StringIO()
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        writer.writeheader()
        for number, (_, held) in enumerate(self.voted, start=1):
            asked, start = held.generation.asked, held.generation.start
            writer.writerow(
                {
                    "vote": number,
                    "model": asked.model,
                    "model_a": held.name(A),
                    "model_b": held.name(B),
                    "voted": held.voted,
                    "preferred": asked.names.get(held.preferred, ""),
                    "prompt": asked.prompt,
                    "chat_template": bool(start and start.chat),
                    **asked.sampling.model_dump(include={"temperature", "top_p", "seed", "new_tokens"}),
                    "answer_a": held.answer(A).text,
                    "answer_b": held.answer(B).text,
                }
            )
        return out.getvalue()


def wilson(wins: int, votes: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of which so many of so many votes were seen; votes is at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(wins, votes).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def in_words(tally: Tally) -> str:
    """A tally with its number of votes, and how sure it is."""
    first, second = tally.names
    ties = f" {tally.ties} could not tell." if tally.ties else ""
    votes = f"{tally.votes} vote{'' if tally.votes == 1 else 's'}"
    count = f"{votes}: {tally.wins[0]} for {first}, {tally.wins[1]} for {second}."
    if tally.interval is None:
        return f"{count}{ties} An interval is given from {ENOUGH} decided votes on; there are {tally.decided}."
    low, high = tally.interval
    share = (
        f"{first} has {tally.wins[0] / tally.decided:.0%} of the decided votes (95% interval {low:.0%} to {high:.0%})"
    )
    if low <= 0.5 <= high:
        return f"{count}{ties} {share}: no clear preference, for one half lies within."
    return f"{count}{ties} {share}: {first if low > 0.5 else second} is preferred."


def _counted(votes: Sequence[tuple[tuple[str, str], Round]]) -> Tally:
    speakers, latest = votes[-1][0], votes[0][1]
    names = latest.generation.asked.names
    preferred = [held.preferred for _, held in votes]
    return Tally(
        speakers=speakers,
        names=(names[speakers[0]], names[speakers[1]]),
        wins=(preferred.count(speakers[0]), preferred.count(speakers[1])),
        ties=preferred.count(""),
        methods=latest.generation.asked.methods,
    )


def _known_by(asked: Asked, speaker: str) -> tuple[str, str]:
    """What an answer is known by: the prompt, and all else that decides its words but how many there are."""
    sampling = asked.sampling
    draws = (sampling.temperature, sampling.top_p, sampling.seed) if sampling.temperature else ()
    return asked.prompt, json.dumps([asked.model, asked.plans.get(speaker, speaker), asked.chat, draws])
