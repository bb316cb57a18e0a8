"""What runs may be asked for where visitors are strangers, and what is said to who asks for more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from come.errors import ComeError
from come.options import Options

if TYPE_CHECKING:
    from come.request import RunConfig
    from come.runs import Run


@dataclass(frozen=True)
class RunLimits:
    """What runs may ask for, and leave on the disk.

    Attributes:
        models: the names that may be asked about; None for any, paths included.
        own_files: whether texts and questions may be files of the visitor's, by path or by upload.
        run_tokens: of one run, for each use; None for any number.
        batch_tokens: of a batch of more than one sequence that is asked for; None for any number.
        task_items: questions of one set; None for all. task_sets: how many sets; None for any, groups included.
        train_minutes: of one training, by a method or a way of recovery; None for any.
        train_tokens: that one training by steps goes over in all, its checks included; None for any number.
        recover_ways: ways of recovery, one after the other; None for any.
        options: by name, the least and the most that an option may be; of a list, how long it may be.
        request_characters: of a run's request as JSON; None for any number.
        sweep_runs: runs of one request. waiting: requests that may wait beside the one at work; waiting_each: of those
            of one visit, beside its first. None for any.
        run_minutes: that a run may be foreseen to take; request_minutes: all runs of a request together. None for any.
        run_minutes_at_most: that a run may work, all goes together; then it is stopped, and keeps what it has.
        visit_bytes: on the disk, of all runs of one visit with what is packed of them; all_bytes: of all visits.
            Beyond it the oldest ended ones are removed. None for any number. visit_runs, all_runs: how many they may be
            before a new one.
        keep_model: whether a run keeps its pruned model unless told otherwise; if not, it keeps the plan only.
    """

    models: tuple[str, ...] | None = None
    own_files: bool = True
    run_tokens: int | None = None
    batch_tokens: int | None = None
    task_items: int | None = None
    task_sets: int | None = None
    train_minutes: float | None = None
    train_tokens: int | None = None
    recover_ways: int | None = None
    options: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    request_characters: int | None = None
    sweep_runs: int | None = None
    waiting: int | None = None
    waiting_each: int | None = None
    run_minutes: float | None = None
    request_minutes: float | None = None
    run_minutes_at_most: float | None = None
    visit_bytes: int | None = None
    all_bytes: int | None = None
    visit_runs: int = 1 << 30
    all_runs: int = 1 << 30
    keep_model: bool = True

    def check_model(self, name: str) -> None:
        """Refuse a model that is not offered.

        Raises:
            ComeError: it is not.
        """
        if self.models is not None and name not in self.models:
            raise ComeError(f"{_called('model', name)} is not offered here.", f"Choose {' or '.join(self.models)}.")

    def check_text(self, name: str) -> None:
        """Refuse a text that is a file, where only known ones are offered.

        Raises:
            ComeError: it is.
        """
        from come.text import known_texts

        names = [source.name for source in known_texts()]
        if not self.own_files and name not in names:
            raise ComeError(f"{_called('text', name)} is not offered here.", f"Choose {' or '.join(names)}.")

    def check(self, what: str, asked: float, most: float) -> None:
        """Refuse more than is allowed.

        Raises:
            ComeError: ``asked`` is more than ``most``.
        """
        if asked > most:
            raise ComeError(f"{asked:,} {what} are more than is allowed here.", f"Ask for at most {most:,}.")

    def check_run(self, config: RunConfig) -> None:
        """Refuse a run that asks for more than is allowed, or for what is not offered.

        Raises:
            ComeError: it does.
        """
        if self.request_characters is not None:
            self.check("characters of a request", len(config.model_dump_json()), self.request_characters)
        self.check_model(config.model)
        for text in (config.text, config.recovered_on, config.evaluated_on):
            self.check_text(text)
        if not self.own_files and any(_is_path(task) for task in config.tasks):
            raise ComeError("Questions of your own are not offered here.", "Choose one of the bundled sets.")
        if self.run_tokens is not None:
            used = [config.n_tokens, config.evaluation_tokens, *([config.recover_tokens] if config.recover else [])]
            self.check("tokens", max(used), self.run_tokens)
        if self.batch_tokens is not None and (config.batch_size or 1) > 1:
            self.check("tokens in a batch", (config.batch_size or 1) * config.seq_len, self.batch_tokens)
        if config.asks_questions:
            self._check_questions(config)
        if self.recover_ways is not None:
            self.check("ways of recovery", len(config.recover), self.recover_ways)
        for asked, tokens in _asked_options(config) if self.options or self.train_minutes is not None else ():
            self._check_options(asked, tokens, config.seq_len)

    def _check_questions(self, config: RunConfig) -> None:
        if self.task_items is not None:
            if config.task_limit is None:
                raise ComeError("All questions are more than is allowed here.", f"Ask for at most {self.task_items}.")
            self.check("questions", config.task_limit, self.task_items)
        if self.task_sets is not None:
            from come.evaluate.tasks import check_tasks, is_group

            names = check_tasks(config.tasks)
            self.check("sets of questions", len(names), self.task_sets)
            if group := next((name for name in names if is_group(name)), None):
                raise ComeError(f"{group} stands for many sets of questions.", "Choose single sets here.")

    def _check_options(self, asked: Options, tokens: int, seq_len: int) -> None:
        """Refuse options of a method or a way that ask for more work or memory than is allowed."""
        values = dict(asked)
        for name, (least, most) in self.options.items():
            value = values.get(name)
            count = len(value) if isinstance(value, list | tuple) else value
            if count is not None and not least <= count <= most:
                bound = f"at least {least:,}" if count < least else f"at most {most:,}"
                raise ComeError(f"The option {name} cannot be {value} here.", f"Ask for {bound}.")
        batch_size = values.get("batch_size") or 1
        if self.batch_tokens is not None and batch_size > 1:
            self.check("tokens in a batch", batch_size * seq_len, self.batch_tokens)
        from come.training.trainer import TrainOptions, tokens_taken

        if not isinstance(asked, TrainOptions):
            return
        if asked.minutes is not None and self.train_minutes is not None:
            self.check("minutes of training", asked.minutes, self.train_minutes)  # whatever the steps
        elif asked.minutes is None and self.train_tokens is not None:
            self.check("tokens of training", tokens_taken(asked, tokens, seq_len), self.train_tokens)

    def check_request(self, requests: Sequence[RunConfig], others: int, own: int = 0) -> None:
        """Refuse a request of one or several runs, or to queue it.

        Args:
            requests: what is asked for together.
            others: how many other requests are at work or waiting.
            own: how many of those are of the same visit.

        Raises:
            ComeError: it is too much, or too many wait already.
        """
        if self.sweep_runs is not None:
            self.check("runs at once", len(requests), self.sweep_runs)
        if self.waiting_each is not None and own > self.waiting_each:
            raise ComeError(
                f"{own} requests of yours are at work or waiting, which is as many as may.",
                "Wait until one has ended, or cancel one.",
            )
        if self.waiting is not None and others > self.waiting:
            raise ComeError(
                f"One request is at work here and {others - 1} are waiting, which is as many as may.",
                "Try again in a few minutes, or run CoMe Lab on a machine of your own.",
            )

    def check_foreseen(self, requests: Sequence[RunConfig], runs: Path | None = None) -> int:
        """Refuse runs that would take too long, by this machine's speed as it is known, else by a usual one's.

        Returns:
            The bytes that they will leave on the disk; 0 where nothing is limited.

        Raises:
            ComeError: one of them is foreseen to take longer than a run may, or all of them longer than a request.
        """
        if self.run_minutes is None and self.request_minutes is None and self.visit_bytes is None:
            return 0
        from come.runs.foreseen import estimate_by_known_speed

        found = []
        for request in requests:
            with suppress(ComeError):  # what cannot run at all is refused elsewhere, in better words
                found.append(estimate_by_known_speed(request, runs))
        self.check_seconds([each.seconds for each in found])
        return sum(each.disk_bytes for each in found)

    def check_seconds(self, seconds: Sequence[float]) -> None:
        """Refuse runs of one request that are foreseen to take so long.

        Raises:
            ComeError: one takes longer than a run may, or all of them longer than a request.
        """
        longest, together = max(seconds, default=0.0) / 60, sum(seconds) / 60
        if self.run_minutes is not None and longest > self.run_minutes:
            raise ComeError(
                f"This run is expected to take about {_minutes(longest)}, and {_minutes(self.run_minutes)} are allowed "
                "here.",
                "Choose a quicker method, more layers or fewer tokens.",
            )
        if self.request_minutes is not None and together > self.request_minutes:
            raise ComeError(
                f"These runs are expected to take about {_minutes(together)}, and {_minutes(self.request_minutes)} are "
                "allowed here for all that start together.",
                "Start fewer of them, or ask for less.",
            )

    def admitted(
        self, requests: Sequence[RunConfig], runs: Path | None, visit: str = "", but: str = ""
    ) -> AbstractContextManager[None]:
        """See ``come.runs.admission.admitted``."""
        from come.runs.admission import admitted

        return admitted(requests, runs, self, visit, but)

    def make_room(self, runs: Path, visit: str, needed: int, keep: Sequence[Run] = ()) -> None:
        """See to it that there is room for so many bytes of a visit: the oldest ended runs of visitors are removed.

        Those of ``keep`` stay.

        Raises:
            ComeError: there is none.
        """
        if self.visit_bytes is not None and self.all_bytes is not None and visit:
            from come.serving.quota import make_room

            make_room(
                runs,
                visit,
                needed,
                self.visit_bytes,
                self.all_bytes,
                keep,
                self.visit_runs,
                self.all_runs,
            )


def _asked_options(config: RunConfig) -> list[tuple[Options, int]]:
    """The options of the method and of each way, with their defaults; and how many tokens each works on.

    Raises:
        ComeError: there is no such method, way or option, or a value is none that it can have.
    """
    from come.pruning.registry import method
    from come.recovery.registry import parse

    found: list[tuple[Options, int]] = [(method(config.method).parse(config.options), config.n_tokens)]
    if config.recover:
        found += [(asked, config.recover_tokens) for _, asked in parse(config.recover, config.recover_options)]
    return found


def _called(kind: str, name: str) -> str:
    """A model or a text by the last part of its path: where it lies is not told to strangers."""
    last = Path(name).name
    return f"The {kind} {last}" if last.strip(".") else f"This {kind}"


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".jsonl") or os.path.exists(name)


def _minutes(minutes: float) -> str:
    whole = max(round(minutes), 1)
    hours, rest = divmod(whole, 60)
    return f"{hours} h {rest} min" if hours and whole != 60 else f"{whole} minutes"
