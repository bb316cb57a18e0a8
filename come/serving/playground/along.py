"""Several models along one given text: chances of its tokens, and each pruned model's KL divergence by position."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from come.errors import ComeError
from come.measurement.divergence import HEAD_POSITIONS
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.not_finite import why_not_finite
from come.serving.cancellation import Cancel, never, stop_if
from come.serving.playground.playground import Pieces, check_length, likeliest
from come.serving.playground.speech import Along, Top


@torch.inference_mode()
def along(
    models: Mapping[str, Bundle],
    tokens: list[int],
    *,
    at: int | None = None,
    top: int = 10,
    cancelled: Cancel = never,
) -> Along:
    """Each model's chances along a text, and KL(original || pruned) after each of its tokens, float32.

    Args:
        models: by name, the original first; all of one tokenizer.
        tokens: of the text.
        at: after which token to tell the likeliest next ones; the last by default.
        top: how many of them.
        cancelled: asked between layers.

    Raises:
        ComeError: the text is empty or too long, ``at`` lies outside of it, or a model's values are not finite.
        Cancelled: it was wanted.
    """
    if not tokens:
        raise ComeError("The text is empty.", "Write a few words.")
    check_length(models, len(tokens))
    at = len(tokens) - 1 if at is None else at
    if not 0 <= at < len(tokens):
        raise ComeError(f"There is no token {at} in a text of {len(tokens)}.", f"Choose from 0 to {len(tokens) - 1}.")
    row = torch.tensor([tokens])
    runners = {name: LayerRunner(bundle) for name, bundle in models.items()}
    states = {name: _states(runner, row, cancelled) for name, runner in runners.items()}
    original, *pruned = models
    chances: dict[str, list[float]] = {name: [] for name in models}
    kl: dict[str, list[float]] = {name: [] for name in pruned}
    tops: dict[str, Top] = {}
    for start in range(0, len(tokens), HEAD_POSITIONS):
        piece = slice(start, start + HEAD_POSITIONS)
        targets = row[0, 1:][piece, None]  # one fewer than positions in the last piece
        theirs: Tensor | None = None
        for name, runner in runners.items():
            stop_if(cancelled)
            log_chances = runner.logits(states[name][piece]).log_softmax(-1).cpu()
            if bool(log_chances[:, 0].isnan().any()):  # then all of its row is
                raise why_not_finite(models[name], row)
            if start <= at < start + len(log_chances):
                tops[name] = likeliest(models[name].tokenizer, log_chances[at - start].exp(), top)
            chances[name] += log_chances[: len(targets)].gather(-1, targets)[:, 0].exp().tolist()
            if theirs is None:
                theirs = log_chances
            else:
                divergence = torch.nn.functional.kl_div(log_chances, theirs, reduction="none", log_target=True)
                kl[name] += divergence.sum(-1).tolist()
    pieces = Pieces(models[original].tokenizer)
    return Along(
        tokens=tuple(tokens),
        pieces=tuple(pieces.add(token, skip_special=False) for token in tokens),
        chances={name: tuple(values) for name, values in chances.items()},
        kl={name: tuple(values) for name, values in kl.items()},
        at=at,
        top=tops,
    )


def _states(runner: LayerRunner, row: Tensor, cancelled: Cancel) -> Tensor:
    """What the head is given, (tokens, hidden_size)."""
    hidden_states = runner.enter(row)
    for layer in range(len(runner)):
        stop_if(cancelled)
        hidden_states = runner.run(layer, hidden_states)
    return runner.norm(hidden_states)[0]
