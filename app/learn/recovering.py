"""Step 7: giving back some of what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import streamlit as st

import come.runs
from app import example_runs, formats, theme
from app.components import run_labels, widgets
from app.components.how_sure import how_sure
from app.figures import lesson_bars
from app.learn import frame, material
from app.learn.material import Material
from come.errors import ComeError
from come.models import Facts
from come.report import comparison
from come.runs import Run

TITLE = "Giving some of it back"
IDEA = (
    "**A refit** solves anew for the output map of a merged layer's feed-forward network (FFN), so that the layer "
    "gives what its window gave."
)
HOW = (
    "The layer's output is linear in that map, so the best change has a closed form: a ridge regression, whose "
    "strength is chosen on held-out tokens. It is kept only where the layer comes nearer on those.\n\n"
    "What least squares cannot mend, training can: layer by layer, on the original's predictions, or with small added "
    "maps (low-rank adaptation, LoRA)."
)
LOGITS = "**Logits:** the model is trained on the chances that the original gives every next token."
_RUNS_LOOKED_AT = 100


@dataclass(frozen=True)
class Recovery:
    """A run that recovered its model, with the perplexities measured of it: (value, standard error) each."""

    run: Run
    original: tuple[float, float]
    before: tuple[float, float]
    after: tuple[float, float]


def draw(of: Material) -> None:
    """A run with recovery, if there is one; else which weights a refit solves for."""
    found = newest()
    known = material.facts()
    if found is not None:
        frame.todo("Read what recovery gave back, then open the run.")
        _measured(found)
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
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if found is not None:
            widgets.next_step("run", "Open this run", run=found.run.id)
        else:
            widgets.next_step("run", "Open the run page")
        widgets.info("How does it work?", HOW, key="how-recovery")


def newest() -> Recovery | None:
    """The newest finished run that recovered its model and measured both; one's own before the shipped ones."""
    for run in [*come.runs.list_runs()[:_RUNS_LOOKED_AT], *example_runs.runs()]:
        try:
            if run.config.recover and run.state().status == "done":
                results = run.results()
                sides = [results.get(side) or {} for side in ("original", "unrecovered", "pruned")]
                if all("perplexity" in side for side in sides):
                    return Recovery(run, *((side["perplexity"], side["perplexity_stderr"]) for side in sides))
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


def finding(found: Recovery) -> str:
    """What recovery did to which model, in one sentence."""
    before, after = found.before[0], found.after[0]
    how = f"{escape(comparison.run_name(found.run), quote=False)}: recovery by {' and '.join(found.run.config.recover)}"
    if after >= before:
        return f"{how} did not help here: perplexity {before:.1f} to {after:.1f}"
    lost = before - found.original[0]
    back = f", {(before - after) / lost:.0%} of what pruning cost" if lost > 0 else ""
    return f"{how} took perplexity from {before:.1f} to {after:.1f}{back}"


def _measured(found: Recovery) -> None:
    sides = (found.original, found.before, found.after)
    frame.chart(
        lesson_bars.perplexities(
            ["Original", "Pruned", "Recovered"],
            [value for value, _ in sides],
            [error for _, error in sides],
            [theme.QUIET, theme.MARK, theme.ACCENT],
            finding(found),
        ),
        key="lesson-recovery",
        alt="Perplexity of the original, of the pruned and of the recovered model",
    )
    if "logits" in found.run.config.recover:
        st.caption(LOGITS)
    how_sure(
        f"Measured by {formats.literal(run_labels.label(found.run))}, on {found.run.config.evaluation_tokens:,} "
        "tokens, ± 1 standard error.",
        key="sure-of-recovery",
    )
