"""Cost against tokens and against layers: straight lines, with their fit."""

from __future__ import annotations

import statistics

import numpy as np

import come
from benchmarks.timing import bundled, in_turn, markdown
from come.models.depth import with_layers

ROUNDS = 3
TOKENS = (1024, 2048, 4096, 8192)
LAYERS = (10, 20, 30)


def table(rounds: int = ROUNDS) -> str:
    """Seconds of measure() by tokens and by layers, each with a straight line through them."""
    bundle, tokens = bundled()
    by_tokens = [
        statistics.median(times)
        for times in in_turn([lambda n=n: come.measure(bundle, tokens[: n // 512]) for n in TOKENS], rounds)
    ]
    models = [with_layers(bundle, list(bundle.layers)[:n], range(n)) for n in LAYERS]
    by_layers = [
        statistics.median(times) for times in in_turn([lambda m=m: come.measure(m, tokens[:4]) for m in models], rounds)
    ]
    return (
        markdown(("tokens (30 layers)", "measure(), s"), list(zip(TOKENS, by_tokens, strict=True)))
        + f"\n\n{_fit('token', TOKENS, by_tokens)}\n\n"
        + markdown(("layers (2,048 tokens)", "measure(), s"), list(zip(LAYERS, by_layers, strict=True)))
        + f"\n\n{_fit('layer', LAYERS, by_layers)}"
    )


def _fit(unit: str, sizes: tuple[int, ...], times: list[float]) -> str:
    slope, intercept = np.polyfit(sizes, times, 1)
    explained = np.corrcoef(sizes, times)[0, 1] ** 2
    return f"{slope:.3g} s a {unit} and {intercept:.2g} s fixed; R² = {explained:.4f}."
