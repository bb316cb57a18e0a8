"""Perplexities as a run's results hold them; an original model's is measured once and kept for all runs."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from come import settings
from come.errors import ComeError
from come.evaluate import measure_perplexity
from come.events import OnProgress
from come.models import Bundle
from come.runs.files import replace


def perplexity_of(
    bundle: Bundle,
    tokens: Tensor,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
    which: str = "",
) -> dict[str, float]:
    """The perplexity of a model and its standard error, under the names that results give them.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens).
        batch_size: sequences at a time.
        on_progress: told of each batch, with ``which`` model it is.
    """
    message = f"Perplexity of the {which} model" if which else "Perplexity"
    found = measure_perplexity(bundle, tokens, batch_size=batch_size, on_progress=on_progress, message=message)
    figures = {"perplexity": found.value, "perplexity_stderr": found.stderr}
    # A single sequence has no standard error; an overflow is no number that JSON knows.
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def perplexity_once(
    bundle: Bundle, tokens: Tensor, batch_size: int | None = None, on_progress: OnProgress = None
) -> dict[str, float]:
    """``perplexity_of`` an original model, kept in ``COME_HOME`` for all runs on that model and text."""
    path = _kept_at(bundle, tokens, batch_size)
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_text("utf-8")))
    figures = perplexity_of(bundle, tokens, batch_size, on_progress, "original")
    with suppress(OSError, ComeError):  # what cannot be kept is measured again another time
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(figures))
    return figures


def _kept_at(bundle: Bundle, tokens: Tensor, batch_size: int | None) -> Path:
    key = hashlib.sha256(tokens.numpy().tobytes())
    key.update(f"{tuple(tokens.shape)} {bundle.fingerprint} {bundle.dtype} {batch_size}".encode())
    return settings.home() / "measured" / f"{key.hexdigest()}.json"
