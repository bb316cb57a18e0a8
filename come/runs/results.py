"""results.json, as it grows while a run works."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from come import __version__
from come.errors import ComeError
from come.files import replace
from come.models import Bundle
from come.request import RunConfig, Use
from come.runs.run import Run
from come.text import SELF, begins_with, describe_text, short_name

PACKAGES = ("torch", "transformers", "safetensors", "numpy", "scipy", "accelerate", "peft", "lm-eval")


class Results:
    """What is known of a run: written whole after every stage, taken up again by a resumed run."""

    def __init__(self, run: Run) -> None:
        self.path = run.path / "results.json"
        self.values: dict[str, Any] = run.results()
        self.values["request"] = run.written_state().request
        self.values["versions"] = {"come": __version__, "python": platform.python_version(), **_versions()}
        self.values |= {"machine": _machine(), "commit": _commit()}
        self.seconds: dict[str, float] = self.values.setdefault("seconds", {})

    def has(self, which: str, metric: str) -> bool:
        """Whether a metric of the original or pruned model is known already."""
        return metric in self.values.get(which, {})

    def note(self, **values: Any) -> None:
        """Take in metrics beside those that are known (perplexities beside sizes), and write the file.

        Raises:
            ComeError: one of them is infinite or not a number.
        """
        for name, value in values.items():
            known = self.values.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                value = {**known, **value}
            self.values[name] = value
        replace(self.path, as_json(self.values))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time that a stage takes to the seconds of that stage."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(stage, time.perf_counter() - before)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Adds to the seconds of a stage."""
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 3)


def as_json(values: dict[str, Any]) -> str:
    """Results as a JSON document.

    Raises:
        ComeError: one of them is infinite or not a number, which JSON has no word for; names it.
    """
    try:
        return json.dumps(values, indent=1, allow_nan=False)
    except ValueError as error:
        metric = " of ".join(reversed(_not_finite(values)))
        raise ComeError(f"What was measured is not a number: {metric}.", "Use float32, or leave it out.") from error


def _not_finite(values: Any) -> list[str]:
    """Where in nested values the first float is that is not finite; empty where there is none."""
    inside = dict(enumerate(values)) if isinstance(values, list | tuple) else values
    for name, value in inside.items() if isinstance(inside, dict) else ():
        if isinstance(value, float) and not math.isfinite(value):
            return [str(name)]
        if inner := _not_finite(value):
            return [str(name), *inner]
    return []


def text_facts(config: RunConfig, use: Use, drawn: Tensor, tokenizer: Any) -> dict[str, Any]:
    """What is told of a text beside the metrics taken on it: a file's name and form, but not where it lies.

    Args:
        config: the request.
        use: what the text is taken for.
        drawn: the tokens of it, int64 (sequences, tokens), by which a text is known that the model said itself.
        tokenizer: made them; says what each sequence begins with.
    """
    text, n_tokens, split, seed = config.text_of(use)
    said_itself = {"hash": hashlib.sha256(drawn.numpy().tobytes()).hexdigest()}
    about = said_itself if text == SELF else describe_text(text, split, tokenizer)
    return {
        "text": short_name(text),
        **({"form": about["form"]} if "form" in about else {}),
        "text_hash": about["hash"],
        "split": split,
        "n_tokens": n_tokens // config.seq_len * config.seq_len,
        "seq_len": config.seq_len,
        "seed": seed,
        "bos": begins_with(drawn, tokenizer),
    }


def tasks_hash(tasks: list[str]) -> str:
    """SHA-256 of the names of tasks and of the files among them."""
    digest = hashlib.sha256(json.dumps(tasks).encode())
    for path in map(Path, tasks):
        if path.suffix == ".jsonl":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def size_of(bundle: Bundle) -> dict[str, int]:
    """How large a model is."""
    return {"layers": len(bundle.layers), "parameters": bundle.parameters, "bytes": bundle.bytes}


def _machine() -> str:
    """What the run's numbers were taken on, beside the device: the system and its processor."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


@cache
def _commit() -> str | None:
    """The commit that this checkout is at, with "+" behind where files differ from it; None where it is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}
