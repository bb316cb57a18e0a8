"""What the resident process does for each kind of request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from cachetools import LRUCache
from torch import Tensor

from come.errors import ComeError
from come.estimation.latency import remembered
from come.events import Event
from come.measurement.measure import measure
from come.measurement.measurement import Measurement
from come.measurement.next_words import next_words
from come.measurement.top_contexts import Context, top_contexts
from come.models import Bundle
from come.plan.plan import Plan
from come.request import judged_on
from come.serving.cancellation import Cancel
from come.serving.limits import Limits
from come.serving.playground import speech
from come.serving.playground.along import along
from come.serving.playground.playground import generate, prompt_ids
from come.serving.resident.models import Loaded, Models, held
from come.serving.resident.worker import Worker
from come.serving.whatif.original import Original, observe
from come.serving.whatif.question import Question, Subject, parse
from come.serving.whatif.suggest import suggest
from come.serving.whatif.whatif import WhatIf
from come.source_fingerprint import source_fingerprint
from come.text import SELF, tokens

Thing = TypeVar("Thing")
Tell = Callable[[dict[str, Any]], None]
ORIGINAL = "original"  # the name of the model that others are compared with


@dataclass(frozen=True)
class Call:
    """One request at work.

    Attributes:
        asked: what was asked for, by name.
        tell: sends a message to whoever asked; no error where they have gone, ``cancelled`` says that.
        cancelled: whether they wait no more, or have asked something newer.
    """

    asked: dict[str, Any]
    tell: Tell
    cancelled: Cancel


class RequestHandler:
    """Answers requests, for all visitors."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.models = Models(limits)
        self.worker = Worker()

    def answer(self, call: Call) -> Any:
        """Do what was asked for; returns what to send back at the end, JSON-ready.

        Raises:
            ComeError: it is impossible.
            Cancelled: nobody waits for it any more.
        """
        kinds: dict[str, Callable[[Call], Any]] = {
            "whatif": self._whatif,
            "suggest": self._suggest,
            "plan": self._plan,
            "generate": self._generate,
            "along": self._along,
            "contexts": self._contexts,
            "next_words": self._next_words,
            "latency": self._latency,
            "status": self._status,
        }
        kind = kinds.get(str(call.asked.get("do")))
        if kind is None:
            raise ComeError(f"Nobody answers {call.asked.get('do')!r} here.", f"Ask for {' or '.join(kinds)}.")
        return kind(call)

    def _whatif(self, call: Call) -> Any:
        plan = call.asked.get("plan")
        asked = _plan(plan) if plan else parse(Question, call.asked.get("question") or {})
        subject = _subject(call)
        if isinstance(asked, Plan) and subject.dtype == "auto":
            subject = subject.model_copy(update={"dtype": asked.dtype})
        fitted = isinstance(asked, Question) and asked.is_fitted
        with self._prepared(call, subject, isinstance(asked, Question), fitted) as whatif:
            return self.worker.do(
                lambda: whatif.answer(asked, call.cancelled, lambda event: call.tell(_progress(event))), call.cancelled
            ).model_dump()

    def _suggest(self, call: Call) -> Any:
        question = parse(Question, call.asked.get("question") or {})
        count = int(call.asked.get("count") or 1)
        self.limits.check("suggestions", count, self.limits.suggestions)
        with self._prepared(call, _subject(call)) as whatif:
            found = self.worker.do(lambda: suggest(whatif, question, count, call.cancelled), call.cancelled)
        return [suggestion.model_dump() for suggestion in found]

    def _plan(self, call: Call) -> Any:
        question = parse(Question, call.asked.get("question") or {})
        if question.is_fitted:
            raise ComeError("A fitted layer is more than a plan's text can hold.", "Run the plan, and take its files.")
        with self._prepared(call, _subject(call)) as whatif:
            return self.worker.do(lambda: whatif.plan(question), call.cancelled).model_dump(mode="json")

    def _generate(self, call: Call) -> Any:
        sampling = parse(speech.Sampling, call.asked.get("sampling") or {})
        self.limits.check("new tokens", sampling.new_tokens, self.limits.new_tokens)
        prompt, chat = str(call.asked.get("prompt") or ""), call.asked.get("chat")
        self.limits.check("characters of a prompt", len(prompt), self.limits.prompt_characters)
        with self._speaking(call) as models:
            _, ids, _ = prompt_ids(models[ORIGINAL].tokenizer, prompt, chat)
            self.limits.check("tokens of a prompt", len(ids), self.limits.prompt_tokens)
            said = generate(models, prompt, sampling, chat=chat, cancelled=call.cancelled)
            while (word := self.worker.do(lambda: next(said, None), call.cancelled)) is not None:
                call.tell({"event": speech.to_dict(word)})
        return None

    def _along(self, call: Call) -> Any:
        text, chat, at = str(call.asked.get("text") or ""), bool(call.asked.get("chat")), call.asked.get("at")
        top, since = int(call.asked.get("top") or 10), call.asked.get("since")
        since = None if since is None else str(since)
        self.limits.check("characters of a text", len(text) + len(since or ""), self.limits.text_characters)
        with self._speaking(call) as models:
            _, ids, _ = prompt_ids(models[ORIGINAL].tokenizer, text, chat)
            self.limits.check("tokens of a text", len(ids), self.limits.text_tokens)
            found = self.worker.do(
                lambda: along(models, ids, at=at, since=since, top=top, cancelled=call.cancelled), call.cancelled
            )
        return found.model_dump()

    def _contexts(self, call: Call) -> Any:
        subject, layer, channel = _subject(call), int(call.asked["layer"]), int(call.asked["channel"])
        self.limits.check_text(subject.text)
        self.limits.check("tokens to measure", subject.measured_tokens, self.limits.measured_tokens)
        with self._loaded(call, subject) as loaded:
            bundle = loaded.bundle
            on_progress = self._giving_way(call, loaded)

            def read() -> list[Context]:
                calibration = self._calibration(call, loaded, subject)
                return self.worker.do(
                    lambda: top_contexts(bundle, calibration, layer, channel, on_progress=on_progress)
                )

            text = _measured_key(subject.model_copy(update={"analysis": None}))
            with held(loaded.preparing, call.cancelled):
                found = _kept(loaded.contexts, (text, layer, channel), read)
        return [asdict(context) for context in found]

    def _next_words(self, call: Call) -> Any:
        layer, channel = int(call.asked["layer"]), int(call.asked["channel"])
        with self._loaded(call, _subject(call)) as loaded:
            return asdict(self.worker.do(lambda: next_words(loaded.bundle, layer, channel), call.cancelled))

    def _latency(self, call: Call) -> Any:
        subject = _subject(call)
        with self._loaded(call, subject) as loaded:
            on_progress = self._giving_way(call, loaded)
            how = (subject.model, subject.dtype, subject.device)
            found = self.worker.do(lambda: remembered(loaded.bundle, *how, on_progress), call.cancelled)
        return {"sentence": found.sentence}

    def _status(self, call: Call) -> Any:
        return {"models": self.models.now(), "budget": self.models.budget}

    @contextmanager
    def _prepared(self, call: Call, subject: Subject, measured: bool = True, fitted: bool = False) -> Iterator[WhatIf]:
        """What answers about a subject; with a measurement of the model, and tokens to fit on, where these are needed.

        What it takes is found out once, and to the end even if this question has been superseded: the next one, which
        waits meanwhile, needs the same.
        """
        self.limits.check_text(subject.text)
        self.limits.check("tokens", subject.n_tokens, self.limits.whatif_tokens)
        self.limits.check("tokens to measure", subject.measured_tokens, self.limits.measured_tokens)
        text, how = _text_key(subject), _measured_key(subject) if measured else None
        sample = (subject.measured_tokens, subject.measured_seq_len) if fitted else None
        with self._loaded(call, subject) as loaded:

            def waiting() -> None:
                if loaded.latest is not None:
                    call.tell(_progress(loaded.latest))

            with held(loaded.preparing, call.cancelled, waiting):
                try:
                    original = _kept(loaded.originals, text, lambda: self._observed(call, loaded, subject))
                    found = (
                        _kept(loaded.measurements, how, lambda: self._measured(call, loaded, subject))
                        if how is not None
                        else None
                    )
                    whatif = _kept(
                        loaded.whatifs,
                        (text, how, sample),
                        lambda: WhatIf(
                            original,
                            loaded.builder,
                            found,
                            self._calibration(call, loaded, subject) if fitted else None,
                        ),
                    )
                finally:
                    loaded.latest = None
            yield whatif

    def _observed(self, call: Call, loaded: Loaded, subject: Subject) -> Original:
        bundle, limits = loaded.bundle, self.limits
        text = judged_on(subject.text)
        count, seq_len, seed = subject.n_tokens, subject.seq_len, subject.evaluation_seed
        held_out = tokens(bundle, text, count, seq_len, "evaluation", seed, bos=subject.bos)
        on_progress = self._giving_way(call, loaded)
        return self.worker.do(
            lambda: observe(
                bundle,
                held_out,
                border_bytes=limits.border_bytes,
                chance_bytes=limits.chance_bytes,
                on_progress=on_progress,
            )
        )

    def _measured(self, call: Call, loaded: Loaded, subject: Subject) -> Measurement:
        if subject.analysis is not None:
            return Measurement.load(subject.analysis)
        bundle, calibration = loaded.bundle, self._calibration(call, loaded, subject)
        on_progress = self._giving_way(call, loaded)
        return self.worker.do(lambda: measure(bundle, calibration, similarity=(), on_progress=on_progress))

    def _calibration(self, call: Call, loaded: Loaded, subject: Subject) -> Tensor:
        """What a model is measured on, int64 (sequences, tokens); where it says that itself, in its turn."""
        on_progress = self._giving_way(call, loaded)
        count, seq_len, seed, bos = subject.measured_tokens, subject.measured_seq_len, subject.seed, subject.bos

        def drawn() -> Tensor:
            return tokens(loaded.bundle, subject.text, count, seq_len, "calibration", seed, on_progress, bos)

        return self.worker.do(drawn) if subject.text == SELF else drawn()

    @contextmanager
    def _speaking(self, call: Call) -> Iterator[dict[str, Bundle]]:
        """The original and the pruned models that a request names, in the dtype of their plans."""
        plans = {str(name): _plan(plan) for name, plan in (call.asked.get("plans") or {}).items()}
        self.limits.check("pruned models", len(plans), self.limits.pruned_models)
        if ORIGINAL in plans:
            raise ComeError(f"A pruned model cannot be called {ORIGINAL!r}.", "Give it another name.")
        subject = _subject(call)
        dtypes = {plan.dtype for plan in plans.values()}
        if len(dtypes) > 1:
            raise ComeError(f"The plans were made in {' and '.join(sorted(dtypes))}.", "Compare models of one dtype.")
        if dtypes:
            subject = subject.model_copy(update={"dtype": dtypes.pop()})
        with self._loaded(call, subject) as loaded:
            models = {ORIGINAL: loaded.bundle}
            for name, plan in plans.items():
                models[name] = self.worker.do(lambda plan=plan: loaded.builder.planned(plan), call.cancelled)  # type: ignore[misc]
            yield models

    @contextmanager
    def _loaded(self, call: Call, subject: Subject) -> Iterator[Loaded]:
        def on_progress(event: Event) -> None:
            call.tell(_progress(event))

        with self.models.using(subject.model, subject.device, subject.dtype, call.cancelled, on_progress) as loaded:
            yield loaded

    def _giving_way(self, call: Call, loaded: Loaded) -> Callable[[Event], None]:
        """Told of long work: tells whoever waits for it, and does others' short work in between."""

        def on_progress(event: Event) -> None:
            loaded.latest = event
            call.tell(_progress(event))
            self.worker.give_way()

        return on_progress


def _kept(cache: LRUCache[Hashable, Thing], key: Hashable, make: Callable[[], Thing]) -> Thing:
    if (known := cache.get(key)) is None:
        known = cache[key] = make()
    return known


def _subject(call: Call) -> Subject:
    return parse(Subject, call.asked.get("subject") or {})


def _text_key(subject: Subject) -> Hashable:
    drawn = subject.n_tokens, subject.seq_len, subject.evaluation_seed, subject.bos
    return subject.text, source_fingerprint(subject.text), *drawn


def _measured_key(subject: Subject) -> Hashable:
    if subject.analysis is not None:
        return subject.analysis, source_fingerprint(subject.analysis)
    return (
        subject.text,
        source_fingerprint(subject.text),
        subject.measured_tokens,
        subject.measured_seq_len,
        subject.seed,
        subject.bos,
    )


def _plan(given: str) -> Plan:
    """A plan by its path, which has its weights beside it, or as JSON."""
    return Plan.parse(given) if given.lstrip().startswith("{") else Plan.read(given)


def _progress(event: Event) -> dict[str, Any]:
    return {"progress": event.to_dict()}
