"""Cost against tokens and against layers: straight lines, with their fit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import come
from benchmarks.timing import bundled, in_turn, markdown
from come.models.depth import with_layers

ROUNDS = 3
TOKENS = (1024, 2048, 4096, 8192)
LAYERS = (10, 20, 30)
PLOT = Path(__file__).parent.parent / "docs" / "images" / "scaling.svg"


def table(rounds: int = ROUNDS) -> str:
    """Seconds of measure() by tokens and by layers, each with a straight line through them; drawn in ``PLOT``."""
    bundle, tokens = bundled()
    by_tokens = [
        statistics.median(times)
        for times in in_turn([lambda n=n: come.measure(bundle, tokens[: n // 512]) for n in TOKENS], rounds)
    ]
    models = [with_layers(bundle, list(bundle.layers)[:n], range(n)) for n in LAYERS]
    by_layers = [
        statistics.median(times) for times in in_turn([lambda m=m: come.measure(m, tokens[:4]) for m in models], rounds)
    ]
    PLOT.write_text(
        drawn([("tokens (30 layers)", TOKENS, by_tokens), ("layers (2,048 tokens)", LAYERS, by_layers)]),
        encoding="utf-8",
    )
    return (
        markdown(("tokens (30 layers)", "measure(), s"), list(zip(TOKENS, by_tokens, strict=True)))
        + f"\n\n{_fit('token', TOKENS, by_tokens)}\n\n"
        + markdown(("layers (2,048 tokens)", "measure(), s"), list(zip(LAYERS, by_layers, strict=True)))
        + f"\n\n{_fit('layer', LAYERS, by_layers)}"
    )


def drawn(panels: Sequence[tuple[str, Sequence[int], Sequence[float]]]) -> str:
    """Seconds against a size, a panel each, with the line that fits: an SVG that is legible on light and dark."""
    ink, width, height, margin = "#808894", 360, 220, 44
    parts = []
    for place, (unit, sizes, times) in enumerate(panels):
        left, right, top = place * width + margin, (place + 1) * width - 16, 1.1 * max(times)

        def at(size: float, seconds: float, left: int = left, right: int = right, top: float = top, sizes=sizes) -> str:  # type: ignore[no-untyped-def]
            x = left + (right - left) * size / (1.05 * sizes[-1])
            return f"{x:.1f},{height - margin - (height - margin - 12) * seconds / top:.1f}"

        slope, intercept = np.polyfit(sizes, times, 1)
        ends = at(0, max(0.0, intercept)), at(1.05 * sizes[-1], slope * 1.05 * sizes[-1] + intercept)
        axes = f"{left},12 {left},{height - margin} {right},{height - margin}"
        parts.append(f'<polyline points="{axes}" fill="none" stroke="{ink}"/>')
        parts.append(f'<polyline points="{" ".join(ends)}" stroke="#2f7fd1" stroke-width="2"/>')
        for size, seconds in zip(sizes, times, strict=True):
            x, y = at(size, seconds).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#e8553a"/>')
            parts.append(f'<text x="{x}" y="{height - margin + 16}" text-anchor="middle">{size:,}</text>')
            parts.append(f'<text x="{x}" y="{float(y) - 9:.1f}" text-anchor="middle">{seconds:.3g} s</text>')
        parts.append(f'<text x="{(left + right) / 2}" y="{height - 8}" text-anchor="middle">{unit}</text>')
    style = f'font-family="sans-serif" font-size="11" fill="{ink}"'
    view = f'viewBox="0 0 {len(panels) * width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {view} {style}>{"".join(parts)}</svg>\n'


def _fit(unit: str, sizes: tuple[int, ...], times: list[float]) -> str:
    slope, intercept = np.polyfit(sizes, times, 1)
    explained = np.corrcoef(sizes, times)[0, 1] ** 2
    return f"{slope:.3g} s per {unit} and {intercept:.2g} s fixed; R² = {explained:.4f}."
