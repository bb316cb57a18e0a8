"""What the finished run of a plan measured, told as a prediction is: nothing is predicted that was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app.plan.whatif.ask import Predicted
from come.models import Facts
from come.request import RunConfig, judged_on
from come.runs import Run
from come.serving.whatif.answer import Answer, halves
from come.serving.whatif.question import Subject


def measured(run: Run | None, subject: Subject, facts: Facts) -> Predicted | None:
    """What the plan's run found on the subject's tokens; None where it is not done, or was judged on others.

    Args:
        run: of exactly this plan and choice, if there is one.
        subject: the model and the tokens that a prediction would be of.
        facts: of the model.
    """
    if run is None or run.state().status != "done" or not _on_the_same(run.config, subject):
        return None
    results = run.results()
    after = "unrecovered" if results.get("unrecovered") else "pruned"  # a plan is told without what recovery gives back
    try:
        original, pruned = (_answer(results[side], subject, facts) for side in ("original", after))
    except (KeyError, TypeError, ValueError):  # it measured something else, or its file is damaged
        return None
    same = len(original.losses) == len(pruned.losses)
    return Predicted(original, pruned, run=run.id) if same else None


def _on_the_same(config: RunConfig, subject: Subject) -> bool:
    judged = (config.evaluated_on, config.evaluation_tokens, config.evaluation_seed)
    how = (config.seq_len, config.dtype, config.device)
    return (*judged, *how) == (
        judged_on(subject.text),
        subject.n_tokens,
        subject.evaluation_seed,
        subject.seq_len,
        subject.dtype,
        subject.device,
    )


def _answer(side: Mapping[str, Any], subject: Subject, facts: Facts) -> Answer:
    """One side of a run's results; the original has no divergence from itself."""
    losses = tuple(side["losses"])
    divergences = tuple(side.get("divergences") or [0.0] * len(losses))
    told = {name: side[name] for name in ("layers", "parameters", "bytes", "perplexity", "bits_per_byte")}
    errors = {f"{name}_stderr": side[f"{name}_stderr"] for name in ("perplexity", "bits_per_byte")}
    every_token = facts.layers * facts.layer_parameters + facts.vocab_size * facts.hidden_size
    lower, upper = halves(losses)
    return Answer(
        **told,
        **errors,
        kl=side.get("kl", 0.0),
        kl_stderr=side.get("kl_stderr", 0.0),
        losses=losses,
        divergences=divergences,
        perplexity_halves=(math.exp(min(lower, 700.0)), math.exp(min(upper, 700.0))),
        kl_halves=halves(divergences),
        speed_up=every_token / (every_token - (facts.parameters - side["parameters"])),
        tokens=len(losses) * (subject.seq_len - 1),
        start=facts.layers,
        seconds=0.0,
        cached=True,
    )
