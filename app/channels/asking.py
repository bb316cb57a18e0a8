"""What the resident process says of one channel: the words it promotes, then the tokens that excite it."""

from __future__ import annotations

from collections.abc import Sequence

from app.components.background_job import Job
from app.inspect.follow_unit import subject_of
from app.state import session
from come.measurement.next_words import NextWords
from come.measurement.top_contexts import Context
from come.request import RunConfig
from come.serving.resident import client

REMEMBERED = 40  # channels of a visit
_JOBS = "_channel_answers"


class Answer(Job):
    """One channel's, as far as it has come.

    Attributes:
        words: the next words; None until they are there, at once when the model is.
        contexts: tokens of the text, the highest activation first; None until the text was read.
    """

    words: NextWords | None = None
    contexts: Sequence[Context] | None = None


def known(config: RunConfig, layer: int, channel: int) -> Answer | None:
    """What was asked of a channel in this visit."""
    jobs: dict[str, Answer] = session.value(_JOBS) or {}
    return jobs.get(_key(config, layer, channel))


def begin(config: RunConfig, layer: int, channel: int) -> None:
    """Ask, in the background; an older question of this visit gives way."""
    jobs: dict[str, Answer] = dict(session.value(_JOBS) or {})
    for job in jobs.values():
        job.stop()
    answer = Answer(_key(config, layer, channel), watched=True)
    visitor = session.visitor()
    answer.begin(lambda: ask(answer, config, layer, channel, visitor))
    jobs[answer.key] = answer
    session.put(_JOBS, dict(list(jobs.items())[-REMEMBERED:]))


def ask(answer: Answer, config: RunConfig, layer: int, channel: int, visitor: str) -> None:
    """Put both questions to the resident process, and write down what comes.

    Raises:
        ComeError: the model or the text cannot be had any more.
        LiveFault: the resident process met a fault of ours.
        Cancelled: the page was left.
    """
    subject = subject_of(config)
    found = client.next_words(subject, layer, channel, key=visitor, on_progress=answer.told)
    answer.words = NextWords(tuple(found["promoted"]), tuple(found["suppressed"]))
    answer.go_on()
    answer.contexts = [
        Context(**each) for each in client.contexts(subject, layer, channel, key=visitor, on_progress=answer.told)
    ]


def _key(config: RunConfig, layer: int, channel: int) -> str:
    return (
        f"{config.model} {config.text} {config.n_tokens} {config.seq_len} {config.seed} {config.bos} {layer} {channel}"
    )
