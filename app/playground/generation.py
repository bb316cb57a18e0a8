"""What the original and its pruned models say to one prompt, collected as it comes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.components.background_job import Job
from come.serving.playground import speech
from come.serving.playground.speech import Along, End, Parting, Said, Sampling, Start, Word, begins_at
from come.serving.resident import client
from come.serving.whatif.question import Subject

ORIGINAL = "original"
UNSURE = 0.2  # a token that its model gave less than this was a surprise to the model itself


@dataclass(frozen=True)
class Asked:
    """What was asked, and of whom.

    Attributes:
        plans: path of each pruned model's plan.json, by run id.
        names: what each is called, by run id; the original's too.
        methods: which made each, by run id: it fixes the colour.
        chat: None: by the chat template where there is one; False: the prompt as it is.
    """

    model: str
    prompt: str
    plans: dict[str, str]
    names: dict[str, str]
    sampling: Sampling = field(default_factory=Sampling)
    chat: bool | None = None
    methods: dict[str, str] = field(default_factory=dict)

    @property
    def speakers(self) -> list[str]:
        """The original, then the pruned models."""
        return [ORIGINAL, *self.plans]


@dataclass
class Answer:
    """One model's answer so far."""

    name: str
    words: list[Word] = field(default_factory=list)
    parting: Parting | None = None
    end: End | None = None

    @property
    def text(self) -> str:
        """What it has written."""
        return "".join(word.text for word in list(self.words))

    @property
    def stopped_at_once(self) -> bool:
        """Whether it ended the text without a word."""
        return self.end is not None and self.end.reason == "stop" and not self.text.strip()

    @property
    def tokens_per_second(self) -> float:
        """After its first new token; nan before."""
        return self.words[-1].tokens_per_second if self.words else math.nan

    @property
    def unsure(self) -> int:
        """How many of its own tokens it gave less than ``UNSURE``."""
        return sum(word.chance < UNSURE for word in list(self.words))


class Generation(Job):
    """All answers to one prompt."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(watched=True)
        self.asked = asked
        self.start: Start | None = None
        self.answers = {name: Answer(name) for name in asked.speakers}
        self.recorded = False

    def add(self, said: Said) -> None:
        """Take in one thing that was said."""
        if isinstance(said, Start):
            self.start = said
            return
        answer = self.answers[said.model]
        if isinstance(said, Word):
            answer.words.append(said)
        elif isinstance(said, Parting):
            answer.parting = said
        else:
            answer.end = said

    def partings(self) -> dict[int, list[str]]:
        """Where models part from the original: position -> their names."""
        found: dict[int, list[str]] = {}
        for answer in self.answers.values():
            if answer.parting is not None:
                found.setdefault(answer.parting.position, []).append(self.asked.names[answer.name])
        return found

    def whole_text(self) -> str:
        """The prompt as the models read it, and what the original went on with."""
        return (self.start.prompt if self.start else self.asked.prompt) + self.answers[ORIGINAL].text


def generate(asked: Asked, visitor: str) -> Generation:
    """Let the models answer, in the background."""
    new = Generation(asked)

    def work() -> None:
        saying = client.generate(
            Subject(model=asked.model),
            asked.prompt,
            asked.plans,
            asked.sampling,
            chat=asked.chat,
            key=visitor,
            on_progress=new.told,
        )
        with closing(saying):  # type: ignore[type-var]
            for said in saying:
                new.go_on()
                new.status = "working" if new.active else new.status
                new.add(said)

    new.begin(work)
    return new


# --- along a text -------------------------------------------------------------------------------------


class Comparison(Job):
    """The models along one text, and their likeliest next tokens after one of its tokens."""

    def __init__(self, asked: Asked, text: str, chat: bool, at: int | None, before: Along | None = None) -> None:
        super().__init__(watched=True)
        self.asked, self.text, self.chat, self.at = asked, text, chat, at
        self.found = before
        self.recorded = False

    @property
    def since(self) -> int:
        """The token that what was asked begins with, behind the words of a template; 0 where it is not found."""
        return 0 if self.found is None else begins_at(self.found.pieces, self.asked.prompt)


def compare_along(
    asked: Asked, text: str, visitor: str, *, chat: bool, at: int | None = None, before: Along | None = None
) -> Comparison:
    """Compare the models along a text, in the background.

    Args:
        asked: which models.
        text: the text; by the chat template if ``chat`` says so.
        visitor: whose question it is; a newer one ends the older.
        at: after which token the likeliest next ones are wanted; by default where a model departs most.
        before: what is known of the same text already, to be shown meanwhile.
    """
    new = Comparison(asked, text, chat, at, before)

    def ask(text: str) -> Along:
        return client.along(
            Subject(model=asked.model),
            text,
            asked.plans,
            at=at,
            since=asked.prompt,
            chat=chat,
            key=visitor,
            on_progress=new.told,
        )

    def work() -> None:
        found = ask(text)
        if _begins_twice(found, text):
            found = ask(text.removeprefix(found.pieces[0]))
        new.go_on()
        new.found = found

    new.begin(work)
    return new


def _begins_twice(found: Along, text: str) -> bool:
    """A template wrote the token that begins a text, and the tokenizer wrote it again."""
    tokens, pieces = found.tokens, found.pieces
    return len(tokens) > 1 and tokens[0] == tokens[1] and bool(pieces[0]) and not text.startswith(pieces[0] * 2)


# --- a recorded one -----------------------------------------------------------------------------------


def record(generation: Generation, said: Iterable[Said], found: Along, path: Path) -> None:
    """Keep answers and a look along their text as a file."""
    document = {
        "model": generation.asked.model,
        "prompt": generation.asked.prompt,
        "runs": list(generation.asked.plans),
        "sampling": generation.asked.sampling.model_dump(),
        # Speeds are those of the machine that recorded; they would say nothing here.
        "said": [_short({**speech.to_dict(each), **_timeless(each)}) for each in said],
        "along": _short(found.model_dump(mode="json")),
    }
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def recorded(
    path: Path, plans: dict[str, str], names: dict[str, str], methods: dict[str, str]
) -> tuple[Generation, Comparison] | None:
    """What was kept, if its runs are all still there."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not set(kept["runs"]) <= set(plans):
        return None
    asked = Asked(
        model=kept["model"],
        prompt=kept["prompt"],
        plans={run: plans[run] for run in kept["runs"]},
        names=names,
        sampling=Sampling(**kept["sampling"]),
        methods=methods,
    )
    generation = Generation(asked)
    for said in kept["said"]:
        generation.add(speech.from_dict(said))
    look = Comparison(asked, generation.whole_text(), False, None, Along(**kept["along"]))
    for job in (generation, look):
        job.status = "done"
        job.recorded = True
    return generation, look


def _timeless(said: Said) -> dict[str, Any]:
    times = ("tokens_per_second", "first_token")
    return {name: math.nan for name in times if hasattr(said, name)}


def _short(values: Any) -> Any:
    """The same with numbers of four digits: a recording is looked at, not computed with."""
    if isinstance(values, float):
        return float(f"{values:.4g}") if math.isfinite(values) else None
    if isinstance(values, dict):
        return {key: _short(value) for key, value in values.items()}
    return [_short(value) for value in values] if isinstance(values, list | tuple) else values
