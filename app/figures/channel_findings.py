"""What each view of the channels' map shows, as a sentence, and the layer of which it speaks.

Arrays are (layers, channels) of sensitivities.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

View = Literal["percentile", "raw", "sorted"]


def of_view(values: np.ndarray, unit: str, view: View, opened: int | None = None) -> str:
    """What a view of the heatmap shows, as a sentence; of the layer that is `opened` first."""
    if view == "percentile":
        return f"Where each {unit} stands in its layer; brightest: each layer's most sensitive"
    return (concentration if view == "sorted" else brightness)(values, unit, opened)


def concentration(values: np.ndarray, unit: str = "FFN channel", opened: int | None = None) -> str:
    """The finding of sorted channels: how much of a layer's sensitivity its top 1% carry, bright or not."""
    share = _of_top(values)
    layer = most_concentrated(values)
    if opened is not None and opened != layer:
        return (
            f"In layer {opened}, the top 1% of {unit}s carry {share[opened]:.0%} of the sensitivity; "
            f"in layer {layer}, the most concentrated, {share[layer]:.0%}"
        )
    return (
        f"Layer {layer} is the most concentrated: its top 1% of {unit}s carry {share[layer]:.0%} of its sensitivity, "
        f"the median layer's {np.median(share):.0%}"
    )


def brightness(values: np.ndarray, unit: str = "FFN channel", opened: int | None = None) -> str:
    """The finding of channels in their order: which layer's are the most sensitive."""
    means = values.mean(axis=1)
    layer = brightest(values)
    times = means / max(float(np.median(means)), 1e-30)
    if opened is not None and opened != layer:
        return (
            f"In layer {opened}, the mean S of {unit}s is {times[opened]:.1f} × the median layer's; "
            f"in layer {layer}, the brightest, {times[layer]:.1f}\N{NO-BREAK SPACE}×"
        )
    return f"Layer {layer} is the brightest: the mean S of its {unit}s is {times[layer]:.1f} × the median layer's"


def brightest(values: np.ndarray) -> int:
    """The layer whose channels are the most sensitive on average."""
    return int(values.mean(axis=1).argmax())


def most_concentrated(values: np.ndarray) -> int:
    """The layer whose top 1% carry the largest share of its sensitivity."""
    return int(_of_top(values).argmax())


def _of_top(values: np.ndarray) -> np.ndarray:
    """The share of each layer's sensitivity that its most sensitive 1% carry, (layers,)."""
    top = max(1, round(values.shape[1] / 100))
    return np.asarray(np.sort(values, axis=1)[:, -top:].sum(axis=1) / np.maximum(values.sum(axis=1), 1e-30))
