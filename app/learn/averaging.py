"""Step 5: why averaging hurts, measured."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app import theme
from app.components import glossary, widgets
from app.components.background_job import Job
from app.components.how_sure import how_sure
from app.figures import lesson_bars
from app.learn import frame, material
from app.learn.material import HOWS, Material
from app.state import session, widget_state
from come.report.metrics import factor
from come.serving.resident import client
from come.serving.whatif.answer import Answer, change
from come.serving.whatif.question import Merge, Question, Subject

TITLE = "Why averaging hurts"
IDEA = (
    "**Averaging** mixes channels that have nothing to do with each other; **concatenation** keeps fewer, each as it "
    "was learnt."
)
NAMES = {"original": "Original", "concatenate": "Concatenated", "average": "Averaged"}
BEYOND = "How much more<br>averaging loses<br>than concatenating"
DOING = {"original": "Reading the text", "concatenate": "Concatenating", "average": "Averaging"}
SUPERSEDED = "A newer question of yours took its place."
_JOB = "_lesson_job"


class Measuring(Job):
    """A pair of layers joined in both ways, measured in the resident process.

    Attributes:
        pair: the two layers.
        found: by "original" and by how, as they come.
    """

    def __init__(self, pair: tuple[int, int]) -> None:
        super().__init__()
        self.pair = pair
        self.found: dict[str, Answer] = {}
        self.news = "Waking the model"


def measure(subject: Subject, pair: tuple[int, int], visitor: str) -> Measuring:
    """Ask for the original and for both ways of joining a pair, one after the other."""
    job = Measuring(pair)
    questions = {"original": Question()} | {
        how: Question(merges=(Merge(first=pair[0], last=pair[1], how=how),)) for how in HOWS
    }

    def work() -> None:
        for name, question in questions.items():
            job.news = DOING[name]
            job.found[name] = client.whatif(subject, question, key=visitor, on_progress=job.told)

    job.begin(work)
    return job


def draw(of: Material) -> None:
    """What the pair adds to the loss concatenated and averaged, and how much more averaging loses."""
    pairs = {f"{first}-{last}": (first, last) for first, last in material.pairs(of.measured)}
    widget_state.keep_among("average-pair", list(pairs), next(iter(pairs)))
    frame.todo("Choose a pair and measure both ways. (Loss is in nats: 0.1 more makes perplexity 1.1 times as high.)")
    job: Measuring | None = session.value(_JOB)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Pair of layers",
            list(pairs),
            key="average-pair",
            required=True,
            format_func=lambda pair: pair.replace("-", " and "),
        )
        pair = pairs[session.value("average-pair")]
        here = job if job is not None and job.pair == pair else None
        working = job is not None and job.active
        st.button(
            "Measure both",
            key="measure-both",
            type="secondary",
            icon=":material/science:",
            disabled=working,
            on_click=_start,
            args=(of, pair),
        )
    if job is not None and working:
        _progress(job)
    elif here is not None and here.status in ("failed", "stopped"):
        st.warning(f"{here.problem or SUPERSEDED} What is shown below was measured before.", icon=":material/error:")
    live = here is not None and here.status == "done"
    answers = here.found if here is not None and live else shipped(of, pair)
    added = {
        NAMES["concatenate"]: change(answers["original"], answers["concatenate"]),
        NAMES["average"]: change(answers["original"], answers["average"]),
        BEYOND: change(answers["concatenate"], answers["average"]),
    }
    frame.chart(
        lesson_bars.differences(
            list(added),
            [found.loss for found in added.values()],
            [found.stderr for found in added.values()],
            [theme.layer_color(pair[0], of.layers), theme.MARK, theme.QUIET],
            finding(answers, pair),
        ),
        key="lesson-averaging",
        alt="What joining the pair in two ways adds to the loss, and the difference between the two",
        tallest=300,
    )
    tokens = answers["original"].tokens
    original = answers["original"]
    widgets.facts_grid(
        {f"{NAMES[how]}: times the original's perplexity": factor(change(original, answers[how]).ratio) for how in HOWS}
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        took = f"Measured just now, in {sum(answer.seconds for answer in answers.values()):.1f} s."
        st.caption(took if live else "Measured when this lesson was made.", width="content")
        how_sure(
            f"{tokens:,} predicted tokens of the example's held-out text, ± 1 standard error. {glossary.NATS} "
            "All three models read the same sequences, so these differences are known far better than the perplexities."
            f" {compared(answers)} Averaging is the equal-weights mean of all parameters; concatenation has CoMe's own "
            "ratio.",
            key="sure-of-averaging",
        )


def shipped(of: Material, pair: tuple[int, int]) -> dict[str, Answer]:
    """What was measured of a pair for the lesson, by "original" and by how."""
    first, last = pair
    return {"original": of.answers["original"]} | {how: of.answers[f"{how} {first}-{last}"] for how in HOWS}


def cost(answers: Mapping[str, Answer], how: str) -> float:
    """By how much joining a pair raises the perplexity, as a share of the original's."""
    return change(answers["original"], answers[how]).ratio - 1


def finding(answers: Mapping[str, Answer], pair: tuple[int, int]) -> str:
    """Which way did less harm, in one sentence."""
    joined, averaged = (cost(answers, how) for how in HOWS)
    less = "Concatenating" if joined < averaged else "Averaging"
    low, high = sorted((joined, averaged))
    return f"{less} layers {pair[0]} and {pair[1]} does less harm: perplexity {low:+.0%} against {high:+.0%}".replace(
        "-", "−"
    )


def compared(answers: Mapping[str, Answer]) -> str:
    """Averaging against concatenation, sequence by sequence, with its error."""
    found = change(answers["concatenate"], answers["average"])
    sure = "both halves of the text agree" if found.stable else "the halves of the text disagree"
    more = "more" if found.loss > 0 else "less"
    return (
        f"On the same sequences averaging loses {abs(found.loss):.3f} ± {found.stderr:.3f} nats per token {more} than "
        f"concatenation ({sure})."
    )


def _start(of: Material, pair: tuple[int, int]) -> None:
    session.put(_JOB, measure(material.subject(of.run), pair, f"{session.visitor()}-learn"))


@st.fragment(run_every=0.5)
def _progress(job: Measuring) -> None:
    if not job.active:
        st.rerun()
    share = len(job.found) / (1 + len(HOWS))
    st.progress(share, text=f"{job.news}… ({len(job.found)} of {1 + len(HOWS)} measured)")
