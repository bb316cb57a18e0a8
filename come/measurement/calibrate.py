"""The calibration pass: tokens run through the layers, from any layer on, and are summed up as they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.statistics import Statistics

TOKENS_A_BATCH = 2048

OnBorder = Callable[[int, int, Tensor], None]


@dataclass(frozen=True)
class Batch:
    """Some sequences of the calibration tokens.

    Attributes:
        index: which batch it is.
        tokens: int64 (sequences, tokens).
        half: (sequences,), 0 or 1: whether a sequence is in the first or the second half of all.
    """

    index: int
    tokens: Tensor
    half: Tensor


def default_batch_size(seq_len: int) -> int:
    """How many sequences go through the model at once when nobody says: about 2,048 tokens."""
    return max(1, TOKENS_A_BATCH // seq_len)


def batches(tokens: Tensor, batch_size: int | None = None) -> Iterator[Batch]:
    """Cut tokens, (sequences, tokens), into batches, in order."""
    size = batch_size or default_batch_size(tokens.shape[1])
    half = (torch.arange(len(tokens)) >= len(tokens) // 2).long()
    for index, start in enumerate(range(0, len(tokens), size)):
        yield Batch(index, tokens[start : start + size], half[start : start + size])


@torch.inference_mode()
def calibrate(
    runner: LayerRunner,
    tokens: Tensor,
    statistics: Statistics,
    *,
    start: int = 0,
    batch_size: int | None = None,
    borders: HiddenStateCache | None = None,
    last_state: str = "normed",
    on_border: OnBorder | None = None,
    on_progress: OnProgress = None,
    message: str = "Measuring",
) -> None:
    """Run the layers from ``start`` on over all tokens and add to ``statistics``.

    Args:
        runner: the model.
        tokens: int64 (sequences, tokens).
        statistics: sums that are zero wherever a layer from ``start`` on has a part in them.
        start: the lowest layer whose output is new. Layers below are run again only where ``borders`` has not kept
            their outputs.
        batch_size: sequences at a time.
        borders: hidden states of an earlier pass, valid up to ``start``; those of this pass are put there.
        last_state: whether H^(L) is taken after the final norm ("normed") or before it ("raw").
        on_border: called with (batch, border, hidden states) for each border from ``start`` on.
        on_progress: told of each layer.

    Raises:
        ComeError: hidden states are not finite; told after the first batch that shows it.
    """
    layers = len(runner)
    spans = sorted({1, *statistics.skip})
    window = max(spans)
    todo = list(batches(tokens, batch_size))
    for batch in todo:
        hidden_states = runner.enter(batch.tokens)
        border = 0
        wanted = max(0, start - window + 1)  # the lowest border that a new pair reaches down to
        if borders is not None and wanted:
            border, kept = borders.nearest(batch.index, wanted)
            hidden_states = kept.to(hidden_states.device, non_blocking=True) if kept is not None else hidden_states
        recent: dict[int, Tensor] = {border: hidden_states}
        for layer in range(border, layers):
            known = borders.get(batch.index, layer + 1) if borders is not None and layer < start else None
            if known is not None:
                hidden_states = known.to(hidden_states.device, non_blocking=True)
            elif layer < start:
                hidden_states = runner.run(layer, hidden_states)
            else:
                if on_border is not None:
                    on_border(batch.index, layer, hidden_states)
                hidden_states = _run_watched(runner, layer, hidden_states, statistics, batch)
                if borders is not None and layer + 1 < layers:
                    borders.put(batch.index, layer + 1, hidden_states)
                emit(on_progress, "measure", batch.index * layers + layer + 1, len(todo) * layers, message)
            above = layer + 1
            recent[above] = hidden_states
            if above == layers and last_state == "normed":
                recent[above] = runner.norm(hidden_states)
            if above > start:
                for span in spans:
                    if above - span in recent:
                        statistics.add_pair(above - span, span, batch.half, recent[above - span], recent[above])
            recent.pop(above - window, None)
        if on_border is not None:
            on_border(batch.index, layers, recent[layers])
        check_finite(statistics.influence, runner)  # every border from ``start`` on is part of these sums


def _run_watched(
    runner: LayerRunner, layer: int, hidden_states: Tensor, statistics: Statistics, batch: Batch
) -> Tensor:
    family = runner.family
    sums = {family.attention_output: statistics.attention, family.ffn_output: statistics.ffn}
    shape = (*batch.tokens.shape, -1)  # OPT hands its FFN all tokens in one row

    def see(path: str) -> Callable[[Tensor], None]:
        return lambda inputs: statistics.add_channels(sums[path], layer, batch.half, inputs.reshape(shape))

    with runner.watching(layer, {path: see(path) for path in sums}):
        return runner.run(layer, hidden_states)
