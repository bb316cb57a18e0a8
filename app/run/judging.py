"""What a new run measures of its result, and on what: the widgets, and the fields of a request that they amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.state import session
from come.errors import ComeError
from come.evaluate.probed import FEWEST
from come.evaluate.tasks import GROUPS, OFFLINE
from come.request import judged_on
from come.serving import limits
from come.text import known_texts

MOST_TOKENS = 10_000_000  # of an evaluation: hours of reading, and more than most texts hold
SAME = "same"  # the evaluation part of the calibration text
MEASURES = {"ppl": "Perplexity", "acc": "Accuracy", "speed": "Speed", "probe": "Layers read"}
MEASURED = {
    "ppl": "Perplexity: on held-out text, with bits per byte and the divergence from the original.",
    "acc": "Accuracy: on questions; takes minutes.",
    "speed": "Speed: of reading and writing; half a minute.",
    "probe": "Layers read: which layers answer the questions, before and after; as long as accuracy.",
}
HUB_TASKS = ("arc_easy", "arc_challenge", "hellaswag", "winogrande", "piqa", "boolq")  # the paper's, and beside them:
HUB_GROUP = "mmlu"  # 57 sets


def measures() -> list[str]:
    """What to measure of the results."""
    st.markdown("**What to measure**", help="\n\n".join(MEASURED.values()))
    chosen = st.pills(
        "Measure",
        list(MEASURES),
        selection_mode="multi",
        wrap=True,
        key="measures",
        persist_state="session",
        default=["ppl"],
        format_func=MEASURES.__getitem__,
        label_visibility="collapsed",
    )
    if not chosen:
        st.caption("Nothing: only the plan and the model are made.")
    return list(chosen or [])


def check(fields: Mapping[str, Any]) -> None:
    """Refuse what was typed and no machine reads.

    Raises:
        ComeError: it is one.
    """
    tokens = fields.get("evaluation_tokens", 0)
    if tokens > MOST_TOKENS:
        raise ComeError(f"{tokens:,} evaluation tokens are more than is read here.", f"Take {MOST_TOKENS:,} at most.")


def judged(measures: list[str]) -> dict[str, Any]:
    """What is measured, and on what: fields of a request.

    Args:
        measures: what was chosen.
    """
    fields: dict[str, Any] = {"evaluate": measures}
    if "ppl" in measures:
        titles = _held_out_texts()
        text = st.selectbox(
            "Perplexity on",
            list(titles),
            key="evaluation-text",
            format_func=lambda key: titles.get(key, key),
            accept_new_options=True,
            persist_state="session",
            help="A known text, or the path of a file of your own: .txt, .jsonl, .json, .csv, .parquet. "
            "Calibration and evaluation parts never overlap.",
        )
        tokens = st.number_input(
            "Evaluation tokens",
            min_value=session.choice().seq_len,
            value=max(4096, session.choice().seq_len),
            step=512,
            key="evaluation-tokens",
            persist_state="session",
            help="More tokens: a surer number, a longer run.",
        )
        fields |= {
            "evaluation_text": None if text in (SAME, None, "") else text,
            "evaluation_tokens": int(tokens or 4096),
        }
    if {"acc", "probe"} & set(measures):
        fields |= _questions("probe" in measures)
    return fields


def _questions(probed: bool) -> dict[str, Any]:
    """Which questions, and how many: fields of a request."""
    sets = {name: f"{name}: all of {', '.join(members)}" for name, members in GROUPS.items()} | OFFLINE
    tasks = st.multiselect(
        "Questions",
        [*sets, *HUB_TASKS, *([HUB_GROUP] if limits.current().task_sets is None else [])],
        key="tasks",
        persist_state="session",
        default=["bundled"],
        format_func=lambda name: sets.get(name, f"{name} (from the hub)"),
        accept_new_options=True,
        help="The bundled sets are small, and not comparable with published numbers. "
        "Any task of lm-eval, or the path of your own .jsonl, works too.",
    )
    limit = st.number_input(
        "Questions of each set",
        min_value=1,
        value=100,
        step=50,
        key="task-limit",
        persist_state="session",
        help="Fewer are quicker and less sure.",
    )
    if probed and int(limit or 100) < FEWEST:
        st.caption(f"Fewer than {FEWEST} questions of a set are too few to learn from.")
    return {"tasks": list(tasks or ["bundled"]), "task_limit": int(limit or 100)}


def _held_out_texts() -> dict[str, str]:
    """The texts that a run may be judged on, with their titles: none of them what the model says itself."""
    known = {text.name: text.title for text in known_texts() if text.where != "model"}
    text = session.choice().text
    same = (
        "Held-out part of the same text" if judged_on(text) == text else f"Held-out part of: {known[judged_on(text)]}"
    )
    return {SAME: same} | known
