"""Several models along one given text: chances of its tokens, and how far each pruned model departs from the original.

It departs in what it expects next (KL divergence by position), and, layer by layer, in its hidden states (angles).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from come.errors import ComeError
from come.measurement.divergence import HEAD_POSITIONS
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.not_finite import why_not_finite
from come.plan.plan import Span, spans_of
from come.serving.cancellation import Cancel, never, stop_if
from come.serving.playground.playground import Pieces, check_length, likeliest
from come.serving.playground.speech import Along, Top, begins_at


@torch.inference_mode()
def along(
    models: Mapping[str, Bundle],
    tokens: list[int],
    *,
    at: int | None = None,
    since: str | None = None,
    top: int = 10,
    cancelled: Cancel = never,
) -> Along:
    """Each model's chances along a text, KL(original || pruned) after each of its tokens and angles by layer, float32.

    Args:
        models: by name, the original first; all of one tokenizer.
        tokens: of the text.
        at: after which token to tell the likeliest next ones; by default as ``since`` says, else the last.
        since: words in the text from which on to look for the token after which a model departs most from the original.
        top: how many of them.
        cancelled: asked between layers.

    Raises:
        ComeError: the text is empty or too long, ``at`` lies outside of it, or a model's values are not finite.
        Cancelled: it was wanted.
    """
    if not tokens:
        raise ComeError("The text is empty.", "Write a few words.")
    check_length(models, len(tokens))
    if at is not None and not 0 <= at < len(tokens):
        raise ComeError(f"There is no token {at} in a text of {len(tokens)}.", f"Choose from 0 to {len(tokens) - 1}.")
    row = torch.tensor([tokens])
    runners = {name: LayerRunner(bundle) for name, bundle in models.items()}
    original, *pruned = models
    spans = {name: _spans(models[name], models[original]) for name in pruned}
    states, angles = _through(runners, spans, row, cancelled)
    chances: dict[str, list[float]] = {name: [] for name in models}
    kl: dict[str, list[float]] = {name: [] for name in pruned}
    for start in range(0, len(tokens), HEAD_POSITIONS):
        piece = slice(start, start + HEAD_POSITIONS)
        targets = row[0, 1:][piece, None]  # one fewer than positions in the last piece
        theirs: Tensor | None = None
        for name, runner in runners.items():
            stop_if(cancelled)
            log_chances = runner.logits(states[name][piece]).log_softmax(-1).cpu()
            if bool(log_chances[:, 0].isnan().any()):  # then all of its row is
                raise why_not_finite(models[name], row)
            chances[name] += log_chances[: len(targets)].gather(-1, targets)[:, 0].exp().tolist()
            if theirs is None:
                theirs = log_chances
            else:
                divergence = torch.nn.functional.kl_div(log_chances, theirs, reduction="none", log_target=True)
                kl[name] += divergence.sum(-1).tolist()
    writer = Pieces(models[original].tokenizer)
    pieces = tuple(writer.add(token, skip_special=False) for token in tokens)
    if at is None:
        at = len(tokens) - 1 if since is None else _departs_most(kl, begins_at(pieces, since), len(tokens))
    return Along(
        tokens=tuple(tokens),
        pieces=pieces,
        chances={name: tuple(values) for name, values in chances.items()},
        kl={name: tuple(values) for name, values in kl.items()},
        at=at,
        top={name: _likeliest_after(at, models[name], runner, states[name], top) for name, runner in runners.items()},
        spans={name: tuple((span.first, span.end) for span in each) for name, each in spans.items()},
        angles={name: tuple(map(tuple, each)) for name, each in angles.items()},
    )


def _departs_most(kl: Mapping[str, Sequence[float]], since: int, end: int) -> int:
    """After which token, from one on, a model departs most from the original; the last where none is beside it."""
    if not kl:
        return end - 1
    return max(range(since, end), key=lambda place: max(values[place] for values in kl.values()))


def _likeliest_after(at: int, bundle: Bundle, runner: LayerRunner, states: Tensor, top: int) -> Top:
    """The likeliest tokens after one: the head alone, once more, where all positions' chances are not kept."""
    return likeliest(bundle.tokenizer, runner.logits(states[at : at + 1]).log_softmax(-1).cpu()[0].exp(), top)


def _spans(bundle: Bundle, original: Bundle) -> list[Span]:
    """The spans of a model's layers; none where it is not known what it was made of."""
    if bundle.plan is not None:
        return spans_of(bundle.plan)
    layers = bundle.model.config.num_hidden_layers
    return [Span(at, at, at + 1) for at in range(layers)] if layers == original.model.config.num_hidden_layers else []


def _through(
    runners: Mapping[str, LayerRunner], spans: Mapping[str, list[Span]], row: Tensor, cancelled: Cancel
) -> tuple[dict[str, Tensor], dict[str, list[list[float]]]]:
    """What each model's head is given, (tokens, hidden_size), and each pruned one's angles, (layers, tokens), degrees.

    All go through their layers side by side, so that no more than one state a model is held.
    """
    states = {name: runner.enter(row) for name, runner in runners.items()}
    original, *pruned = runners
    angles: dict[str, list[list[float]]] = {name: [] for name in pruned}
    for layer in range(len(runners[original])):
        stop_if(cancelled)
        states[original] = runners[original].run(layer, states[original])
        for name in pruned:
            for span in spans[name]:
                if span.end == layer + 1:
                    states[name] = runners[name].run(span.layer, states[name])
                    angles[name].append(_degrees(states[original][0], states[name][0]))
    for name in pruned:
        for layer in range(len(angles[name]), len(runners[name])):
            stop_if(cancelled)
            states[name] = runners[name].run(layer, states[name])
    return {name: runners[name].norm(state)[0] for name, state in states.items()}, angles


def _degrees(ours: Tensor, theirs: Tensor) -> list[float]:
    """The angles between the rows of two states, (tokens, hidden_size).

    Of directions nearly alike the arc cosine tells little in float32, so it is by the lengths of difference and sum.
    """
    one, other = (torch.nn.functional.normalize(states.float().cpu(), dim=-1) for states in (ours, theirs))
    apart, together = (torch.linalg.vector_norm(each, dim=-1) for each in (one - other, one + other))
    return [round(value, 3) for value in (2 * torch.atan2(apart, together)).rad2deg().tolist()]
