"""Step 8: five questions, answered by reading or running something real.

Every answer is computed from the example's arrays; none is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import streamlit as st

import come
from app import presenter
from app.figures import lesson_bars
from app.learn import averaging, frame, looping, material
from app.learn.angle import degrees
from app.learn.material import HOWS, Material
from app.state import session, widget_state
from come.pruning.allocate import allocate

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        text: the question. options: to choose from, as they are shown.
        answer: which of them is right, as an index.
        step: where in the lesson it can be found out. view: what that step must show for it, widget key to value.
        why: what was read to know, once answered.
    """

    text: str
    options: tuple[str, ...]
    answer: int
    step: int
    view: dict[str, object]
    why: str


def questions(of: Material, seed: int) -> list[Asked]:
    """Five questions; another seed asks about other layers."""
    rng = np.random.default_rng(seed)
    return [
        _top_tenth(of, rng),
        _least_turning(of, rng),
        _allocated(of, rng),
        _which_merge(of, rng),
        _untouched(of, rng),
    ]


def _top_tenth(of: Material, rng: np.random.Generator) -> Asked:
    layers = sorted(int(layer) for layer in rng.choice(of.layers, 3, replace=False))
    shares = [tenth(of, layer) for layer in layers]
    answer = int(np.argmax(shares))
    return Asked(
        "In which of these layers does the most sensitive tenth of the FFN channels hold the largest share of the "
        "layer's sensitivity?",
        tuple(f"Layer {layer}" for layer in layers),
        answer,
        1,
        {"stack-layer": layers[0]},
        "; ".join(f"layer {layer}: {share:.1%}" for layer, share in zip(layers, shares, strict=True)),
    )


def _least_turning(of: Material, rng: np.random.Generator) -> Asked:
    angles = degrees(of, of.measured.span)
    firsts = sorted(int(first) for first in rng.choice(len(angles), 3, replace=False))
    answer = int(np.argmin(angles[firsts]))
    span = of.measured.span
    return Asked(
        "Which of these windows would CoMe rather merge, by the angle alone?",
        tuple(f"Layers {first} and {first + span - 1}" for first in firsts),
        answer,
        3,
        {"turn-span": span, "turn-first": firsts[0]},
        "; ".join(f"{first} and {first + span - 1} turn by {angles[first]:.1f}°" for first in firsts),
    )


def _allocated(of: Material, rng: np.random.Generator) -> Asked:
    first, last = material.pairs(of.measured)[int(rng.integers(material.PAIRS))]
    share = int(rng.choice([10, 20, 25, 30, 40, 60, 70, 75, 80, 90]))
    units = of.measured.mlp_sensitivity.shape[1]
    counts = [allocate(units, (part / 100, 1 - part / 100))[0] for part in (share, 100 - share, 50)]
    merge = come.draft(of.measured, windows=[(first, last)], ratios=[(share / 100, 1 - share / 100)])[0]
    options = _shuffled(sorted(set(counts)), rng)
    return Asked(
        f"Layers {first} and {last} become one, and layer {first} gets {share}%. "
        f"How many of its {units:,} FFN channels live on?",
        tuple(f"{count:,}" for count in options),
        options.index(merge.channels[0]),
        4,
        {"join-pair": f"{first}-{last}", "join-share": share},
        f"{units:,} × {share}%, rounded as CoMe does, is {merge.channels[0]:,}; "
        f"layer {last} gives {merge.channels[1]:,}",
    )


def _which_merge(of: Material, rng: np.random.Generator) -> Asked:
    pairs = material.pairs(of.measured)
    pair = pairs[int(rng.integers(len(pairs)))]
    answers = averaging.shipped(of, pair)
    hows = _shuffled(HOWS, rng)
    costs = [averaging.cost(answers, how) for how in hows]
    return Asked(
        f"Layers {pair[0]} and {pair[1]} become one. Which way raises the perplexity less?",
        tuple(averaging.NAMES[how] for how in hows),
        int(np.argmin(costs)),
        5,
        {"average-pair": f"{pair[0]}-{pair[1]}"},
        "; ".join(f"{averaging.NAMES[how].lower()}: {each:+.1%}" for how, each in zip(hows, costs, strict=True)),
    )


def _untouched(of: Material, rng: np.random.Generator) -> Asked:
    merges = int(rng.integers(2, len(of.history) + 1))
    groups = looping.groups_after(of, merges)
    merged = [len(group) for group in groups if len(group) > 1]
    answer, left, taken = len(groups) - len(merged), len(groups), sum(merged)
    # Wrong are the layers that are left in all, those that merges took, and numbers beside the right one.
    wrong = [count for count in dict.fromkeys((left, taken, answer + 1, answer + 2)) if count != answer]
    options = _shuffled([answer, *wrong[:2]], rng)
    return Asked(
        f"How many of the {of.layers} layers are left as they were after {merges} merges of the example's run?",
        tuple(map(str, options)),
        options.index(answer),
        6,
        {"merge-way": "loop", "merge-step": merges},
        f"{left} layers are left: {answer} as they were, and {len(merged)} made of the other {taken}",
    )


def tenth(of: Material, layer: int) -> float:
    """The share of a layer's summed FFN sensitivity that its most sensitive tenth holds."""
    values = np.sort(of.measured.mlp_sensitivity[layer].numpy())[::-1]
    return float(values[: len(values) // 10].sum() / values.sum())


def _shuffled(options: Sequence[T], rng: np.random.Generator) -> list[T]:
    """The options in an order that the question draws, so that the right one has no place of its own."""
    return [options[place] for place in rng.permutation(len(options))]


# --- on the page -------------------------------------------------------------------------------------

TITLE = "Five questions"
IDEA = "Each question's button opens the step where its answer can be found."
_SETS = 50


def draw(of: Material) -> None:
    """The questions, with what was answered so far."""
    widget_state.keep_among("quiz", list(range(1, _SETS + 1)), 1)
    number = session.value("quiz")
    asked = questions(of, number)
    frame.todo("Guess, then look it up: the answers were computed from the example just now.")
    for place, question in enumerate(asked):
        widget_state.keep_answer(_key(number, place), list(range(len(question.options))))
    given = [session.value(_key(number, place)) for place in range(len(asked))]
    right = [each is not None and each == question.answer for each, question in zip(given, asked, strict=True)]
    answered = [each is not None for each in given]
    if any(answered) or not presenter.is_on():  # before a room an empty chart would take the questions' place
        frame.chart(
            lesson_bars.score(answered, right), key="lesson-quiz", alt=f"{sum(right)} of {len(asked)} questions right"
        )
    columns = st.columns(3, gap="small") if presenter.is_on() else [st.container()]  # a room sees all of them
    for place, question in enumerate(asked):
        with columns[place % len(columns)]:
            _ask(number, place, question)
    st.button(
        "Ask about other layers",
        key="quiz-other",
        icon=":material/casino:",
        on_click=session.put,
        args=("quiz", number % _SETS + 1),
    )


def _ask(number: int, place: int, question: Asked) -> None:
    key = _key(number, place)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute", gap="small"):
            chosen = st.radio(
                f"{place + 1}. {question.text}",
                list(range(len(question.options))),
                key=key,
                index=None,
                horizontal=True,
                format_func=question.options.__getitem__,
            )
            st.button(
                f"Find out in step {question.step}",
                key=f"{key}-look",
                type="tertiary",
                icon=":material/search:",
                on_click=_look,
                args=(question,),
            )
        if chosen is not None:
            verdict = ":material/check_circle: **Right.**" if chosen == question.answer else ":material/cancel: **No.**"
            best = "" if chosen == question.answer else f" It is {question.options[question.answer]}."
            st.markdown(f"{verdict}{best} {question.why}.")


def _look(question: Asked) -> None:
    for key, value in question.view.items():
        session.put(key, value)
    session.put(frame.STEP, question.step)


def _key(number: int, place: int) -> str:
    return f"quiz-{number}-{place + 1}"
