"""Step 2: sensitivity is how active a channel is, times how far it reaches."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import theme
from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import lesson_bars
from app.learn import frame
from app.learn.material import Activations, Material
from app.state import session, widget_state

TITLE = "What a channel is worth"
IDEA = (
    r"**Sensitivity** $S_j$ is how active a channel is, $\operatorname{mean}_t |x_{tj}|$, times the weights that carry "
    r"it on, $\sum_i |W_{ij}|$."
)
_RANKS = (1, 10, 100, 700, 1400)


def draw(material: Material) -> None:
    """One channel along one line of text; a token's activation can be moved."""
    seen = material.activations
    by_rank = np.argsort(-(seen.activation.mean(0) * seen.reach), kind="stable")
    ranks = [rank for rank in _RANKS if rank <= len(by_rank)]
    widget_state.keep_among("unit-rank", ranks, ranks[1])
    loudest = int(seen.activation[:, by_rank[ranks[1] - 1]].argmax())
    widget_state.keep_among("unit-token", list(range(len(seen.words))), loudest)
    frame.todo("Choose a token and drag its activation: S and the channel's rank follow.")
    left, middle, right = st.columns(3)
    with left:
        st.selectbox(
            f"Feed-forward channel, layer {seen.layer}",
            ranks,
            key="unit-rank",
            format_func=lambda rank: f"{by_rank[rank - 1]:,}, rank {rank:,}",
        )
        channel = int(by_rank[session.value("unit-rank") - 1])
    with middle:
        st.selectbox(
            "Token",
            list(range(len(seen.words))),
            key="unit-token",
            format_func=lambda place: f"{place + 1}. {lesson_bars.shown(seen.words[place])}",
        )
    token = session.value("unit-token")
    original = float(seen.activation[token, channel])
    most = float(np.ceil(3 * max(seen.activation[:, channel].max(), 1e-3) * 100) / 100)
    with right:
        value = st.slider(
            "Its activation |x|",
            0.0,
            most,
            value=round(original, 3),
            step=most / 300,
            key=f"unit-value-{channel}-{token}",
            format="%.3f",
        )
    moved = token_moved(seen, channel, token, original if value == round(original, 3) else value)
    before, after = ranked(seen, seen.activation[:, channel], channel), ranked(seen, moved, channel)
    frame.chart(
        lesson_bars.activations(
            seen.words,
            moved,
            moved=token,
            original=original,
            color=theme.layer_color(seen.layer, material.layers),
            title=f"Channel {channel:,} on this line: "
            f"S = {moved.mean():.3g} × {seen.reach[channel]:.3g} = {after[0]:.3g}",
        ),
        key="lesson-activations",
        alt=f"The activation of channel {channel} at each of {len(seen.words)} tokens",
    )
    widgets.facts_grid(
        {
            "Mean |x| on this line": f"{moved.mean():.3g}",
            "Σ|W|, its reach": f"{seen.reach[channel]:.3g}",
            "S on this line": f"{after[0]:.3g}" + ("" if after == before else f" (was {before[0]:.3g})"),
            f"Rank of {len(by_rank):,}": f"{after[1]:,}" + ("" if after == before else f" (was {before[1]:,})"),
        }
    )
    how_sure(
        "Real activations of the bundled model on one line of its text. "
        f"Over all {material.measured.n_tokens:,} tokens of the example, "
        f"S = {seen.mean_activation[channel]:.3g} × {seen.reach[channel]:.3g} = "
        f"{float(material.measured.mlp_sensitivity[seen.layer, channel]):.3g}. "
        "S has no unit: only its ranking is used.",
        key="sure-of-activations",
    )


def token_moved(seen: Activations, channel: int, token: int, value: float) -> np.ndarray:
    """A channel's activations with that of one token moved, (tokens,)."""
    values = seen.activation[:, channel].copy()
    values[token] = value
    return values


def ranked(seen: Activations, values: np.ndarray, channel: int) -> tuple[float, int]:
    """A channel's sensitivity with these activations, and its rank among the others as they are."""
    sensitivity = float(values.mean() * seen.reach[channel])
    others = np.delete(seen.activation.mean(0) * seen.reach, channel)
    return sensitivity, int((others > sensitivity).sum()) + 1
