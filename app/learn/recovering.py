"""Step 7: giving back some of what was lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

import come.runs
from app import example_runs, formats
from app.components import run_labels, widgets
from app.components.how_sure import how_sure
from app.figures import lesson_bars
from app.learn import frame, material, on_the_way
from app.learn.material import Material
from app.learn.on_the_way import Measured
from app.state import session, widget_state
from come.errors import ComeError
from come.models import Facts
from come.recovery import registry
from come.report import comparison, paired
from come.report.metrics import number
from come.runs import Run

TITLE = "Giving some of it back"
IDEA = "**A refit** solves anew for one map of each merged layer; **training** then teaches what the original predicts."
HOW = (
    "The map is the one out of the feed-forward network (FFN). A layer's output is linear in it, so the best change "
    "has a closed form: a ridge regression, whose strength is chosen on held-out tokens. It is kept only where the "
    "layer comes nearer on those. After CoMe-Joint, which solves for maps while it merges, it is done once more, on "
    "more text.\n\n"
    "What least squares cannot mend, training can: layer by layer, on the original's predictions, or with small added "
    "maps (low-rank adaptation, LoRA)."
)
START = 1  # the stage shown first: pruned, nothing given back
_RUNS_LOOKED_AT = 100


@dataclass(frozen=True)
class Stage:
    """A model on the way, what the control calls it, and what its row of the chart is called."""

    name: str
    row: str
    perplexity: float
    stderr: float


@dataclass(frozen=True)
class Recovery:
    """A run that recovered its model, with the perplexities measured of it: (value, standard error) each.

    Attributes:
        first: after the first of several ways; None where that was not measured.
    """

    run: Run
    original: Measured
    before: Measured
    after: Measured
    first: Measured | None = None

    @property
    def stages(self) -> list[Stage]:
        """The original, the pruned model, and what each way that was measured made of it."""
        ways = self.run.config.recover
        found = [Stage("Original", "Original", *self.original), Stage("Pruned", "Pruned", *self.before)]
        if self.first is None or len(ways) < 2:
            return [*found, Stage("Recovered", "Recovered", *self.after)]
        one, rest = _named(ways[:1]), _named(ways[1:])
        return [*found, Stage(f"+ {one}", f"+ {one}", *self.first), Stage(f"+ {rest}", f"+ {rest}", *self.after)]


def draw(of: Material) -> None:
    """A run with recovery, if there is one, stage by stage; else which weights a refit solves for."""
    found = newest()
    known = material.facts()
    if found is not None:
        _measured(of, found)
    elif known is not None:
        frame.todo("Start a run with recovery: its numbers will stand here.")
        frame.chart(
            lesson_bars.parts(*moved_by_refit(known)),
            key="lesson-refit",
            alt="Parameters of one layer by part; a refit solves for the FFN's output map alone",
        )
        st.caption("**Not measured yet:** no run here recovered its model. The counts are the bundled model's.")
    else:
        st.caption("Neither a run with recovery nor the bundled model can be read now, so there is nothing to draw.")
    with st.container(key="recovery-more", horizontal=True, vertical_alignment="center", gap="small"):
        if found is not None:
            widgets.next_step("run", "Open this run", run=found.run.id)
        else:
            widgets.next_step("run", "Open the run page")
        widgets.info("How does it work?", HOW, key="how-recovery")
        if found is not None:
            how_sure(
                f"Measured by {formats.literal(run_labels.label(found.run))}, on "
                f"{found.run.config.evaluation_tokens:,} tokens, ± 1 standard error. Recovery learned on "
                f"{found.run.config.recover_tokens:,} other tokens. Pruned on {found.run.config.n_tokens:,}: a run "
                "that reads more or fewer comes to other numbers.",
                key="sure-of-recovery",
            )


def newest() -> Recovery | None:
    """The newest finished run that recovered its model and measured both; one's own before the shipped ones."""
    for run in [*come.runs.list_runs()[:_RUNS_LOOKED_AT], *example_runs.runs()]:
        try:
            if run.config.recover and run.state().status == "done":
                results = run.results()
                sides = [results.get(side) or {} for side in ("original", "unrecovered", "pruned")]
                if all("perplexity" in side for side in sides):
                    measured = [(side["perplexity"], side["perplexity_stderr"]) for side in sides]
                    return Recovery(run, *measured, on_the_way.first_way(run))
        except (ComeError, OSError):
            continue  # a directory that holds no run of this version
    return None


def moved_by_refit(known: Facts) -> tuple[list[str], list[int], list[bool], str]:
    """The parts of one layer's maps with their parameters, which of them a refit solves for, and the finding."""
    hidden, heads = known.hidden_size, known.num_attention_heads * known.head_dim
    groups = known.num_key_value_heads * known.head_dim
    output = known.intermediate_size * hidden
    inputs = known.layer_parameters - output - 2 * hidden * (heads + groups)
    names = ["Attention: q, k, v, o", "FFN inputs: gate, up, and norms", "FFN output: down"]
    values = [2 * hidden * (heads + groups), inputs, output]
    share = output / known.layer_parameters
    title = f"A refit solves for {output:,} of a merged layer's {known.layer_parameters:,} parameters ({share:.0%})"
    return names, values, [False, False, True], title


def finding(found: Recovery, stage: int) -> str:
    """What the model of a stage came to, in one sentence."""
    stages = found.stages
    name = escape(comparison.run_name(found.run), quote=False)
    now = stages[stage].perplexity
    if stage <= START:
        return f"{name}: pruning took perplexity from {number(found.original[0])} to {number(found.before[0])}"
    last = stage == len(stages) - 1
    how = _named(found.run.config.recover if last else found.run.config.recover[:1]).lower()
    if now >= found.before[0]:
        return f"{name}: {how} did not help here: perplexity {number(found.before[0])} to {number(now)}"
    back = given_back(found, stage)
    share = f", {back} of what pruning cost" if back else ""
    return f"{name}: {how} took perplexity from {number(found.before[0])} to {number(now)}{share}"


def given_back(found: Recovery, stage: int) -> str:
    """The share of what pruning cost that is back at a stage; "" where pruning cost nothing."""
    lost = found.before[0] - found.original[0]
    return f"{(found.before[0] - found.stages[stage].perplexity) / lost:.0%}" if lost > 0 else ""


def paired_words(found: Recovery, stage: int) -> str:
    """The change up to a stage, sequence by sequence, with its error; "" where the run kept no losses of both sides."""
    ends = {START: ("pruning", "original", "unrecovered"), len(found.stages) - 1: ("recovery", "unrecovered", "pruned")}
    if stage not in ends:
        return ""
    what, *sides = ends[stage]
    results = found.run.results()
    before, after = ((results.get(side) or {}).get("losses") or [] for side in sides)
    change = paired.of_losses(before, after)
    if change is None or change.stderr is None or not math.isfinite(change.value + change.stderr):
        return ""
    times = paired.factor_of(change.value)
    share, error = abs(times - 1), times * change.stderr
    places = 0 if error >= 0.01 else 1
    told = f"{share:.{places}%}".removesuffix("%") + f" ± {error:.{places}%}"
    does = f"takes {told} off" if change.value < 0 else f"adds {told} to"
    return (
        f"Paired on the same {change.count:,} sequences, {what} {does} perplexity "
        f"({abs(change.value):.2f} ± {change.stderr:.2f} nats per token)."
    )


def _named(ways: Sequence[str]) -> str:
    """Ways to recover, in few words."""
    short = {"refit": "Refit", "logits": "Training"}
    known = registry.ways()
    named = [short.get(way, known[way].title if way in known else way) for way in ways]
    return " and ".join([named[0], *(name.lower() for name in named[1:])])


def _measured(of: Material, found: Recovery) -> None:
    stages = found.stages
    places = list(range(START, len(stages)))
    frame.todo("How much of what was lost comes back? Guess, then take one step after the other.")
    widget_state.keep_among("recovery-stage", places, START)
    st.segmented_control(
        "Model", places, key="recovery-stage", required=True, format_func=lambda place: stages[place].name
    )
    at = session.value("recovery-stage")
    shown = [place <= at for place in range(len(stages))]
    frame.chart(
        lesson_bars.stages(
            [stage.row for stage in stages],
            [stage.perplexity for stage in stages],
            [stage.stderr for stage in stages],
            shown,
            finding(found, at),
        ),
        key="lesson-recovery",
        alt=f"Perplexity of the original and up to: {stages[at].row}",
    )
    if words := paired_words(found, at):
        st.caption(words)
    widgets.facts_grid(_numbers(found, at) | larger(of, found))


def _numbers(found: Recovery, stage: int) -> dict[str, str]:
    pruned, now = found.run.results()["pruned"], found.stages[stage]
    return {
        "Parameters": f"{pruned['parameters'] / 1e6:,.0f} M",
        "Perplexity": f"{number(now.perplexity)} ± {number(now.stderr)}",
        "Given back of what was lost": given_back(found, stage).replace("-", "−") or "nothing was lost",
    }


def larger(of: Material, found: Recovery) -> dict[str, str]:
    """What to hold it against: the example's next larger model of one merge, without recovery; only of its own run."""
    left = found.run.results()["pruned"]["layers"]
    sizes = [layers for layers in of.one_window if layers > left]
    if not example_runs.is_example(found.run) or not sizes:
        return {}
    return {f"{min(sizes)} layers, nothing given back": " ± ".join(map(number, of.one_window[min(sizes)]))}
