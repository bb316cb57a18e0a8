"""Asking the resident process. Imports no model code; everything may raise what ``connection.converse`` raises."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from come.errors import ComeError
from come.events import Event
from come.serving.playground import speech
from come.serving.playground.speech import Along, Said, Sampling
from come.serving.resident.connection import converse, running
from come.serving.whatif.answer import Answer, Suggestion
from come.serving.whatif.question import Question, Subject

Path = str | os.PathLike[str]
OnProgress = Callable[[Event], None] | None
SECONDS = 600.0


def whatif(
    subject: Subject,
    question: Question | None = None,
    *,
    plan: Path | None = None,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> Answer:
    """What edits of a model, or a plan, would come to.

    Args:
        subject: which model, on which text.
        question: the edits; none for the original as it is.
        plan: instead of edits: the path of a plan.json, or a plan as JSON.
        key: the visitor; a newer question of theirs ends the older one, which then raises ``Cancelled``.
        timeout: seconds without any news after which to give up.
        on_progress: told of loading and measuring, which only first questions need.
    """
    asked = {"question": _plain(question or Question())} if plan is None else {"plan": _anchored(plan)}
    return Answer(**_result("whatif", subject, asked, key, timeout, on_progress))


def suggest(
    subject: Subject,
    question: Question | None = None,
    count: int = 1,
    *,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> list[Suggestion]:
    """The best windows to merge next, each with what it would come to."""
    asked = {"question": _plain(question or Question()), "count": count}
    return [Suggestion(**each) for each in _result("suggest", subject, asked, key, timeout, on_progress)]


def plan(
    subject: Subject,
    question: Question,
    *,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> dict[str, Any]:
    """The plan of a question's edits, as plan.json holds it."""
    return dict(_result("plan", subject, {"question": _plain(question)}, key, timeout, on_progress))


def generate(
    subject: Subject,
    prompt: str,
    plans: Mapping[str, Path] | None = None,
    sampling: Sampling | None = None,
    *,
    chat: bool | None = None,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> Iterator[Said]:
    """What the original, named "original", and the models of plans go on with, as it comes. Closing it ends it.

    Args:
        subject: which model.
        prompt: what to go on from.
        plans: by name, the path of a plan.json or a plan as JSON; at most three.
        sampling: how tokens are chosen; the likeliest by default.
        chat: whether to use the chat template; None: where the model has one.
        key, timeout, on_progress: as for ``whatif``.
    """
    asked = {
        "subject": _plain(subject),
        "prompt": prompt,
        "plans": _texts(plans),
        "sampling": _plain(sampling or Sampling()),
        "chat": chat,
    }
    for message in converse("generate", asked, key=key, timeout=timeout):
        _report(message, on_progress)
        if "event" in message:
            yield speech.from_dict(message["event"])


def along(
    subject: Subject,
    text: str,
    plans: Mapping[str, Path] | None = None,
    *,
    at: int | None = None,
    since: str | None = None,
    top: int = 10,
    chat: bool = False,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> Along:
    """The models along a text: chances, divergence from the original by position, the likeliest tokens after one.

    Args:
        subject: which model.
        text: the text; put as a user's turn by the chat template if ``chat`` says so.
        plans: as for ``generate``.
        at: after which token to tell the likeliest next ones; by default as ``since`` says, else the last.
        since: words in the text from which on to look for the token after which a model departs most from the original.
        top: how many of them.
        chat, key, timeout, on_progress: as for ``generate``.
    """
    asked = {"text": text, "plans": _texts(plans), "at": at, "since": since, "top": top, "chat": chat}
    return Along(**_result("along", subject, asked, key, timeout, on_progress))


def contexts(
    subject: Subject,
    layer: int,
    channel: int,
    *,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> list[dict[str, Any]]:
    """The tokens of the calibration text that excite an FFN channel most: ``come.measurement.top_contexts``, as dicts.

    Args:
        subject: which model; ``measured_tokens`` of its text are read.
        layer, channel: which channel.
        key, timeout, on_progress: as for ``generate``.
    """
    return list(_result("contexts", subject, {"layer": layer, "channel": channel}, key, timeout, on_progress))


def next_words(
    subject: Subject,
    layer: int,
    channel: int,
    *,
    key: str = "",
    timeout: float = SECONDS,
    on_progress: OnProgress = None,
) -> dict[str, Any]:
    """The next words that an FFN channel promotes and suppresses: ``come.measurement.next_words``, as a dict.

    Args:
        subject: which model.
        layer, channel: which channel.
        key, timeout, on_progress: as for ``generate``.
    """
    return dict(_result("next_words", subject, {"layer": layer, "channel": channel}, key, timeout, on_progress))


def latency(subject: Subject, *, key: str = "", timeout: float = SECONDS, on_progress: OnProgress = None) -> str:
    """Time a model as ``come.estimation.latency`` does, which remembers it; says what was measured.

    Args:
        subject: which model.
        key, timeout, on_progress: as for ``generate``.
    """
    return str(_result("latency", subject, {}, key, timeout, on_progress)["sentence"])


def status() -> dict[str, Any] | None:
    """The models in memory and their bytes; None where no process is running. Starts none."""
    return None if running() is None else dict(_last("status", {}, "", 30.0, None))


def stop() -> None:
    """End the process, if one is running; what it held in memory is lost, and the next request starts another."""
    with suppress(ComeError):
        if running() is not None:
            _last("stop", {}, "", 30.0, None)


def _result(do: str, subject: Subject, asked: dict[str, Any], key: str, timeout: float, on_progress: OnProgress) -> Any:
    return _last(do, {"subject": _plain(subject), **asked}, key, timeout, on_progress)


def _last(do: str, asked: dict[str, Any], key: str, timeout: float, on_progress: OnProgress) -> Any:
    for message in converse(do, asked, key=key, timeout=timeout):
        _report(message, on_progress)
        if "result" in message:
            return message["result"]
    raise AssertionError("a conversation ends with a result")


def _report(message: dict[str, Any], on_progress: OnProgress) -> None:
    if on_progress is not None and "progress" in message:
        on_progress(Event(**message["progress"]))


def _plain(document: Subject | Question | Sampling) -> dict[str, Any]:
    plain = document.model_dump(mode="json")
    for name in ("model", "text", "analysis"):  # paths, so that they mean the same in the other process
        given = plain.get(name)
        if given and os.sep in given and os.path.exists(given):
            plain[name] = os.path.abspath(given)
    return plain


def _texts(plans: Mapping[str, Path] | None) -> dict[str, str]:
    return {name: _anchored(plan) for name, plan in (plans or {}).items()}


def _anchored(plan: Path) -> str:
    """A plan as JSON, or its path so that it means the same in the other process."""
    given = os.fspath(plan)
    return given if given.lstrip().startswith("{") else os.path.abspath(given)
