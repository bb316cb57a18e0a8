"""The loss of a model that differs from another only from some layer on, started from what enters there.

Whatever scores many changes of one model (CoMe-P its ratios, SLEB its removals) runs only the layers after each change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from come.events import OnProgress, emit
from come.measurement.calibrate import Batch, batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite

WindowStates = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Gives, again at every call, batches of the tokens that enter the model, (sequences, tokens), and of the hidden states
that enter the window, (sequences, tokens, hidden_size)."""


@torch.inference_mode()
def losses_from(
    runner: LayerRunner,
    tokens: Tensor,
    start: int,
    layers: Sequence[int],
    instead: Mapping[int, nn.Module] | None = None,
    *,
    borders: HiddenStateCache | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """The mean negative log-likelihood of each sequence, (sequences,), of a model with other layers from one on.

    Args:
        runner: the model as it is.
        tokens: int64 (sequences, tokens).
        start: the first layer that is different; those below are run only as far as ``borders`` kept nothing of them.
        layers: the layers that come from there on, by their numbers in the model as it is.
        instead: modules in the place of some of these.
        borders: hidden states of the model as it is, valid up to ``start``.
        batch_size: sequences at a time; about 2,048 tokens by default.
    """
    losses = []
    for batch in batches(tokens, batch_size):
        hidden_states = states_at(runner, batch.index, batch.tokens, start, borders)
        losses.append(suffix_losses(runner, hidden_states, batch.tokens, layers, instead))
    return torch.cat(losses)


def suffix_losses(
    runner: LayerRunner,
    hidden_states: Tensor,
    tokens: Tensor,
    layers: Sequence[int],
    instead: Mapping[int, nn.Module] | None = None,
) -> Tensor:
    """The loss of each sequence of a batch, (sequences,), from the hidden states that enter the first of ``layers``.

    Args:
        runner: the model; it has entered these tokens.
        hidden_states: what enters the first of the layers, (sequences, tokens, hidden_size).
        tokens: int64 (sequences, tokens).
        layers: which layers, in the order in which they are run.
        instead: modules in the place of some of these, each called as its layer is.
    """
    for layer in layers:
        hidden_states = runner.run(layer, hidden_states, instead.get(layer) if instead is not None else None)
    return sequence_losses(runner, runner.norm(hidden_states), tokens)


def states_at(runner: LayerRunner, batch: int, tokens: Tensor, border: int, borders: HiddenStateCache | None) -> Tensor:
    """The hidden states that enter layer ``border``, from the nearest kept border below."""
    hidden_states = runner.enter(tokens)
    at, kept = borders.nearest(batch, border) if borders is not None else (0, None)
    if kept is not None:
        hidden_states = kept.to(hidden_states.device, non_blocking=True)
    for layer in range(at, border):
        hidden_states = runner.run(layer, hidden_states)
    return hidden_states


def entering_window(
    runner: LayerRunner, tokens: Tensor, layer: int, borders: HiddenStateCache, batch_size: int | None = None
) -> WindowStates:
    """What enters a window that begins at ``layer``, again at every call; what is run is kept.

    Args:
        runner: the model.
        tokens: int64 (sequences, tokens).
        layer: the window's first.
        borders: hidden states of the model on these tokens.
        batch_size: sequences at a time.
    """

    def states() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(tokens, batch_size):
            entering = states_at(runner, batch.index, batch.tokens, layer, borders)
            if borders.get(batch.index, layer) is None:
                borders.put(batch.index, layer, entering)
            yield batch.tokens, entering

    return states


def each_border(
    runner: LayerRunner, batch: Batch, borders: HiddenStateCache | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Each border of a batch with its hidden states, lowest first: what enters every layer, then what leaves the last.

    A layer is run when what leaves it is asked for, unless ``borders`` has kept that; what is new is kept there.

    Raises:
        ComeError: what leaves the last layer is not finite. (Below it cannot be, then: layers add to what enters them.)
    """
    hidden_states = runner.enter(batch.tokens)
    yield 0, hidden_states
    for layer in range(len(runner)):
        kept = borders.get(batch.index, layer + 1) if borders is not None else None
        if kept is not None:
            hidden_states = kept.to(hidden_states.device, non_blocking=True)
        else:
            hidden_states = runner.run(layer, hidden_states)
            if borders is not None and layer + 1 < len(runner):
                borders.put(batch.index, layer + 1, hidden_states)
        if layer + 1 == len(runner):
            check_finite(hidden_states, runner)
        yield layer + 1, hidden_states


def run_through(runner: LayerRunner, batch: Batch, of: int, on_progress: OnProgress, message: str) -> Tensor:
    """The hidden states of a batch, one of ``of``, after the final norm, (sequences, tokens, hidden_size)."""
    hidden_states = runner.enter(batch.tokens)
    for layer in range(len(runner)):
        hidden_states = runner.run(layer, hidden_states)
        emit(on_progress, "evaluate", batch.index * len(runner) + layer + 1, of * len(runner), message)
    return runner.norm(hidden_states)


HEAD_TOKENS = 1024  # logits are the memory peak: this many tokens' at a time


def sequence_losses(runner: LayerRunner, normed: Tensor, tokens: Tensor) -> Tensor:
    """The mean negative log-likelihood of each sequence, (sequences,), float32 on the CPU.

    Args:
        runner: the model.
        normed: hidden states after the final norm, (sequences, tokens, hidden_size).
        tokens: int64 (sequences, tokens); each but the first is predicted.
    """
    states = normed[:, :-1].flatten(0, 1)
    targets = tokens[:, 1:].flatten().to(states.device)
    pieces: list[Tensor] = [
        torch.nn.functional.cross_entropy(
            runner.logits(states[start : start + HEAD_TOKENS]), targets[start : start + HEAD_TOKENS], reduction="none"
        )
        for start in range(0, len(states), HEAD_TOKENS)
    ]
    losses: Tensor = torch.cat(pieces).unflatten(0, (len(tokens), -1))
    return losses.mean(1).cpu()
