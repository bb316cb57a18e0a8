"""Loss and KL divergence of an edited model by sequence, run from its lowest changed layer on.

Bit for bit what ``come.evaluate.measure_divergence`` finds by running the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.divergence import compare
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import states_at
from come.models import Bundle
from come.serving.cancellation import Cancel, never, stop_if
from come.serving.whatif.original import Original


@torch.inference_mode()
def predict(
    bundle: Bundle, original: Original, start: int, cancelled: Cancel = never, on_progress: OnProgress = None
) -> tuple[Tensor, Tensor]:
    """Mean loss and mean KL divergence of each sequence, (sequences,) each, in nats a predicted token.

    Args:
        bundle: the edited model.
        original: what it was made from, on the tokens.
        start: the first layer that differs from the original's.
        cancelled: asked between layers and pieces.
        on_progress: told of each layer.

    Raises:
        ComeError: the edited model's values are not finite.
        Cancelled: it was wanted.
    """
    runner = LayerRunner(bundle)
    losses: list[Tensor] = []
    divergences: list[Tensor] = []
    todo, layers = original.known.batches(), range(start, len(runner))
    for batch, _ in todo:
        hidden_states = states_at(runner, batch.index, batch.tokens, start, original.borders)
        for done, layer in enumerate(layers, batch.index * len(layers)):
            stop_if(cancelled)
            emit(on_progress, "predict", done, len(todo) * len(layers), "Running the plan")
            hidden_states = runner.run(layer, hidden_states)
        theirs = _unless(cancelled, original.log_chances_of(batch.index))
        loss, divergence = compare(runner, runner.norm(hidden_states), batch.tokens, theirs)
        check_finite(torch.stack([loss, divergence]), runner)
        losses.append(loss)
        divergences.append(divergence)
    return torch.cat(losses), torch.cat(divergences)


def _unless(cancelled: Cancel, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same pieces, as long as nobody wants them to end."""
    for piece in pieces:
        stop_if(cancelled)
        yield piece
