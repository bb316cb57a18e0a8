"""The work of the baselines that do more than pass the tokens through the model once."""

from __future__ import annotations

from typing import Any

from come.estimation.recovery import float32_speed
from come.estimation.work import Clock, Schedule
from come.models import Facts
from come.training.trainer import BACK, tokens_taken

IN_FLOAT32 = {"taylor": BACK, "fisher": BACK - 1}  # of the layers run over all tokens: those that gradients go through
TUNING_PASSES = 6  # of Fisher's masks: both models, for the attention, for the FFN, and on to the next layer


def baseline_schedule(
    facts: Facts, target: int, options: Any, name: str, n_tokens: int, stride: int
) -> Schedule | None:
    """What a baseline runs; None for one that is not known here, or has nothing to do.

    Args:
        facts: the model.
        target: how many layers are asked for.
        options: the method's options, parsed.
        name: the method.
        n_tokens: the calibration tokens.
        stride: every which border of the hidden states is kept (``HiddenStateCache``).
    """
    layers, gone = facts.layers, facts.layers - target
    if not gone:
        return None
    few = getattr(options, "sequences", None), getattr(options, "seq_len", None)
    tokens = min(n_tokens, few[0] * few[1]) if few[0] and few[1] else n_tokens
    match name:
        case "sleb":
            return Schedule([float(layers)], gone, [(left, (left - 1) / 2) for left in range(layers, target, -1)])
        case "finercut":  # two sub-layers a layer
            tried = [(2 * layers - step, layers / 2) for step in range(2 * gone)]
            return Schedule([float(layers)], 2 * gone, tried, tokens)
        case "laco" | "slm":  # each layer is tried at each of a few thresholds
            return Schedule([float(layers)], gone, [(3 * layers, layers / 2)], tokens, guessed=True)
        case "taylor":  # up; then each layer again, and back through it and its weights
            again = layers * (stride - 1) / 2  # what enters a layer is run from the nearest border kept
            return Schedule(unmeasured=(1 + BACK) * layers + again, heads=BACK)
        case "fisher":  # weights get no gradient, which is half of the way back
            tuning = TUNING_PASSES if options.tune else 0
            return Schedule(unmeasured=float((BACK + tuning) * layers), heads=BACK)
        case "streamline":  # up to and through the block, which lies in the middle where nothing is known
            return Schedule([float(layers)], unmeasured=(layers + gone + 1) / 2, similarity=("cosine",))
    return None


def baseline_seconds(clock: Clock, name: str, options: Any, n_tokens: int) -> float:
    """Seconds of a baseline beside its schedule: a training, the equations of a tuning, gradients in float32."""
    if name == "streamline":
        if options.minutes:
            return float(60 * options.minutes)
        return BACK * clock.layers(1, tokens_taken(options, n_tokens, clock.seq_len))
    products = 2 * IN_FLOAT32.get(name, 0) * clock.facts.layers * clock.facts.layer_parameters * n_tokens
    slower = products * (1 / float32_speed(clock) - 1 / clock.device.linear_speed(clock.dtype))
    return slower + (_tuning_seconds(clock, n_tokens) if name == "fisher" and options.tune else 0.0)


def _tuning_seconds(clock: Clock, n_tokens: int) -> float:
    """Seconds for the products of what enters each output map, and to solve for the scales."""
    facts = clock.facts
    channels, attention = facts.intermediate_size, facts.num_attention_heads * facts.head_dim
    sums = 4 * n_tokens * (channels**2 + attention**2)
    solved = 2 * channels**3 / 3 + 2 * channels**2 * facts.hidden_size
    return facts.layers * (sums + solved) / float32_speed(clock)
