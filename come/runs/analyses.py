"""Finding a finished analysis again, so that a model is measured once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from come.errors import ComeError
from come.request import BEFORE_BOS, RunConfig, anchored_path, anchored_text
from come.runs.run import Run
from come.runs.store import list_runs

if TYPE_CHECKING:
    from come.measurement.measurement import Measurement


def analysis_for(
    model: str,
    text: str,
    n_tokens: int,
    seq_len: int,
    seed: int = 0,
    *,
    bos: str = "auto",
    dtype: str = "auto",
    span: int = 2,
    sbi_tokens: str = "all",
    last_state: str = "normed",
    runs: Path | None = None,
    also: Iterable[Path] = (),
) -> Run | None:
    """The newest finished analysis of that model on that text, or None. Of files as they are now, not as they were.

    Args:
        model, text, n_tokens, seq_len, seed, bos, dtype, span, sbi_tokens, last_state: as in ``RunConfig``.
        runs: the folder of runs.
        also: more places to look in, after it: folders of runs, or single runs.
    """
    wanted = {
        "kind": "analyze",
        "model": anchored_path(model),
        "text": anchored_text(text),
        "n_tokens": n_tokens,
        "seq_len": seq_len,
        "seed": seed,
        "dtype": dtype,
        "span": span,
        "sbi_tokens": sbi_tokens,
        "last_state": last_state,
    }
    candidates = list_runs(runs)
    for place in also:
        candidates += [Run(place)] if (place / "config.json").is_file() else list_runs(place)
    for run in candidates:
        if (run.path / "analysis.safetensors").is_file() and _asks_for(run, wanted, bos) and run.sources_unchanged():
            return run
    return None


def newest_analysis(model: str, runs: Path | None = None) -> Measurement | None:
    """What the newest analysis of a model found, on whatever text: where windows lie hardly depends on it."""
    for run in list_runs(runs):
        with suppress(ComeError):
            if run.config.kind == "analyze" and run.config.model == model and (found := run.measurement()):
                return found
    return None


def begins_alike(run: Run, config: RunConfig, bos: str) -> bool:
    """Whether a run's calibration sequences begin as another's, which asks for that ``bos``: as far as the run tells.

    What begins with no BOS by the tokenizer's own rule is what never to put one gives.
    """
    if config.bos == bos:
        return True
    told = run.results().get("calibration")
    return bos == BEFORE_BOS and isinstance(told, dict) and told.get("bos") is None


def _asks_for(run: Run, wanted: dict[str, Any], bos: str) -> bool:
    try:
        config = run.config  # read once: there may be hundreds of runs
    except ComeError:
        return False
    return all(getattr(config, name) == value for name, value in wanted.items()) and begins_alike(run, config, bos)
