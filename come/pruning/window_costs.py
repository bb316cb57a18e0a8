"""What merging each window of a model costs, one window at a time, and where that cost comes from (ours).

The *parallel error* is the divergence with a window's layers side by side: each runs on what enters the window, and
what they add is added together. That is what it costs to join them, before any unit is dropped. The *unit error* is
what the merge as CoMe-Joint makes it costs beyond that. It is below zero where looking ahead and moved maps give back
more than dropped units cost; in long windows it mostly is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import each_border, entering_window
from come.models import Bundle
from come.models.offload import is_offloaded
from come.pruning.joint import joint_candidates
from come.pruning.joint_rules import JointRules
from come.pruning.options import ScoredOptions
from come.pruning.scoring import Scorer
from come.pruning.windows import Window, WindowCost, dearest, windows_by_cost
from come.transforms.compatible import Model, check_mixable


def likely_first(model: Model, influence: Tensor, sizes: Sequence[int]) -> list[Window]:
    """The windows of a model that can be merged: a size after the other in turn, in each the likeliest first.

    Args:
        model: the model, its facts or its config.
        influence: block influence of its layers, (layers,); the likeliest have least in sum, but for one layer's.
        sizes: how many layers windows have; those that do not fit are left out.
    """
    by_size = [windows_by_cost(model, influence, size, size) for size in dict.fromkeys(sizes)]
    longest = max(map(len, by_size), default=0)
    return [windows[place] for place in range(longest) for windows in by_size if place < len(windows)]


def window_costs(
    bundle: Bundle,
    tokens: Tensor,
    windows: Sequence[Window],
    *,
    also: Tensor | None = None,
    batch_size: int | None = None,
    memory_budget: int | None = None,
) -> Iterator[WindowCost]:
    """What each window costs, in their order, found out when it is asked for.

    Merges are fitted as a run of CoMe-Joint on these tokens does by default; the last of them only score, as there.

    Args:
        bundle: the model; it is left as it was.
        tokens: calibration tokens, int64 (sequences, tokens).
        windows: (first, last) each; they may overlap.
        also: tokens that score beside these, int64 (sequences, tokens of the same number), such as of other kinds of
            text: what is cheap on one kind alone may be dear on others.
        batch_size: sequences at a time.
        memory_budget: bytes for hidden states at layer borders.

    Raises:
        ComeError: there are too few tokens, layers of a window cannot become one, the model lies partly outside of
            memory, or it overflows.
    """
    options, rules = ScoredOptions(), JointRules()
    options.check_sequences(len(tokens))
    check_mixable(bundle, windows)
    if is_offloaded(bundle.model):
        raise ComeError(
            "Windows of a model that lies partly outside of memory are not measured.",
            "Use a machine on which the model fits in memory.",
        )
    fitted, scoring = options.split(tokens)
    if also is not None:
        scoring = torch.cat([scoring, also])
    runner = LayerRunner(bundle)
    layers = len(runner)
    borders = HiddenStateCache.of(bundle, fitted, memory_budget)
    scorer = Scorer(bundle, scoring, options.score, batch_size, memory_budget)
    _keep_borders(runner, fitted, borders, batch_size)
    influence = scorer.block_influence(runner)
    alone: dict[int, float] = {}

    def without(layer: int) -> float:
        if layer not in alone:
            alone[layer] = scorer.changed(runner, layer, range(layer + 1, layers))
        return alone[layer]

    for window in windows:
        began, (first, last) = time.perf_counter(), window
        above = range(last + 1, layers)
        joined = _SideBySide(runner, range(first, last + 1))
        parallel = scorer.changed(runner, first, [first, *above], {first: joined})
        if last - first == 1:
            stays = first if without(last) < without(first) else last
            removal = min(without(first), without(last))
        else:
            stays = dearest(influence, window)
            removal = scorer.changed(runner, first, [stays, *above])
        states = entering_window(runner, fitted, first, borders, batch_size)
        merged, refitted = (
            scorer.by_sequence(runner, first, [each.origin, *above], {each.origin: each.module})
            for each in joint_candidates(bundle, runner, window, states, rules, (None, stays))
        )
        yield WindowCost(
            first,
            last,
            parallel,
            _mean(merged),
            removal,
            _mean(refitted),
            stays,
            tuple(merged.tolist()),
            time.perf_counter() - began,
        )


def _mean(scores: Tensor) -> float:
    """Infinite where the model overflows."""
    mean = float(scores.mean())
    return mean if math.isfinite(mean) else math.inf


class _SideBySide(nn.Module):
    """Stands for several layers of a model that all run on the same hidden states; what they add is added together."""

    def __init__(self, runner: LayerRunner, layers: Sequence[int]) -> None:
        super().__init__()
        self._runner, self._layers = runner, layers

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        states = hidden_states.float()
        added = sum(self._runner.run(layer, hidden_states).float() - states for layer in self._layers)
        return (states + added).to(hidden_states.dtype)


@torch.inference_mode()
def _keep_borders(runner: LayerRunner, tokens: Tensor, borders: HiddenStateCache, batch_size: int | None) -> None:
    """Run a model once over tokens, so that whatever enters a window is at hand."""
    for batch in batches(tokens, batch_size):
        for _ in each_border(runner, batch, borders):
            pass
