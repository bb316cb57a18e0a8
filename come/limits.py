"""How much may be asked for here, and how much memory the answers may take. The one place for such limits.

On one's own machine little is limited; in a public demonstration (``COME_DEMO``) much is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from come import settings
from come.errors import ComeError

if TYPE_CHECKING:
    from come.runs.config import RunConfig


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        models: the names that may be asked about; None for any, paths included.
        own_files: whether texts and questions may be files of the visitor's, by path or by upload.
        run_tokens: of one run, for each use; None for any number.
        task_items: questions of one set; None for all.
        train_minutes: of one way of recovery; None for any.
        sweep_runs: runs of one request. waiting: requests that may wait beside the one at work. None for any.
        keep_model: whether a run keeps its pruned model unless told otherwise; if not, it keeps the plan only.
        own_runs_only: whether a visitor may end or delete only what they have started themselves.
        model_bytes: of all original models' weights in memory; None for half of what is free at the start. One
            model is always held, whatever its size.
        layer_bytes: of merged layers kept, for each original model.
        border_bytes: of hidden states kept, for each text of a model.
        chance_bytes: of the original's predictions kept, for each text of a model; beyond it they are made again.
        texts: how many texts of a model are kept at hand.
        whatif_tokens: held-back tokens of a what-if question. measured_tokens: calibration tokens of a measuring pass.
        prompt_tokens, new_tokens: of the playground. text_tokens: of a text that models are compared along.
        pruned_models: how many speak beside the original.
        suggestions: how many are made at once.
        idle_seconds: the resident process ends when nobody asked anything for so long.
    """

    models: tuple[str, ...] | None = None
    own_files: bool = True
    run_tokens: int | None = None
    task_items: int | None = None
    train_minutes: float | None = None
    sweep_runs: int | None = None
    waiting: int | None = None
    keep_model: bool = True
    own_runs_only: bool = False
    model_bytes: int | None = None
    layer_bytes: int = 1 << 30
    border_bytes: int = 1 << 30
    chance_bytes: int = 1 << 29
    texts: int = 2
    whatif_tokens: int = 16_384
    measured_tokens: int = 65_536
    prompt_tokens: int = 2_048
    new_tokens: int = 1_024
    text_tokens: int = 2_048
    pruned_models: int = 3
    suggestions: int = 5
    idle_seconds: float = 20 * 60

    def check_model(self, name: str) -> None:
        """Refuse a model that is not offered.

        Raises:
            ComeError: it is not.
        """
        if self.models is not None and name not in self.models:
            raise ComeError(f"The model {Path(name).name} is not offered here.", f"Choose {' or '.join(self.models)}.")

    def check_text(self, name: str) -> None:
        """Refuse a text that is a file, where only known ones are offered.

        Raises:
            ComeError: it is.
        """
        from come.text import known_texts

        names = [source.name for source in known_texts()]
        if not self.own_files and name not in names:
            raise ComeError(f"The text {Path(name).name} is not offered here.", f"Choose {' or '.join(names)}.")

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
        self.check_model(config.model)
        for text in (config.text, config.recovered_on, config.evaluated_on):
            self.check_text(text)
        if not self.own_files and any(_is_path(task) for task in config.tasks):
            raise ComeError("Questions of your own are not offered here.", "Choose one of the bundled sets.")
        if self.run_tokens is not None:
            used = [config.n_tokens, config.evaluation_tokens, *([config.recover_tokens] if config.recover else [])]
            self.check("tokens", max(used), self.run_tokens)
        if self.task_items is not None and "acc" in config.evaluate:
            if config.task_limit is None:
                raise ComeError("All questions are more than is allowed here.", f"Ask for at most {self.task_items}.")
            self.check("questions", config.task_limit, self.task_items)
        if self.train_minutes is not None:
            for name, value in config.recover_options.items():
                if name.rpartition(".")[2] == "minutes":
                    self.check("minutes of training", float(value), self.train_minutes)

    def check_request(self, requests: Sequence[RunConfig], others: int) -> None:
        """Refuse a request of one or several runs, or to queue it.

        Args:
            requests: what is asked for together.
            others: how many other requests are at work or waiting.

        Raises:
            ComeError: it is too much, or too many wait already.
        """
        if self.sweep_runs is not None:
            self.check("runs at once", len(requests), self.sweep_runs)
        if self.waiting is not None and others > self.waiting:
            raise ComeError(
                f"One request is at work here and {others - 1} are waiting, which is as many as may.",
                "Try again in a few minutes, or run CoMe Lab on a machine of your own.",
            )


DEMO = Limits(
    models=("smollm2-135m", "HuggingFaceTB/SmolLM2-360M", "Qwen/Qwen2.5-0.5B"),
    own_files=False,
    run_tokens=8_192,
    task_items=200,
    train_minutes=2.0,
    sweep_runs=6,
    waiting=3,
    keep_model=False,
    own_runs_only=True,
    layer_bytes=1 << 29,
    border_bytes=1 << 29,
    whatif_tokens=2_048,
    measured_tokens=8_192,
    prompt_tokens=512,
    new_tokens=128,
    text_tokens=512,
    suggestions=3,
)


def current() -> Limits:
    """The limits that hold here."""
    return DEMO if settings.demo() else Limits()


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".jsonl") or Path(name).exists()
