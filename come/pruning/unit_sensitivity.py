"""How much the units of a model's layers matter: by activations and weights, or by Fisher information.

The Fisher information of a unit is that on a mask variable m, at 1, which multiplies what the unit gives to the output
map: the mean over sequences of the square of d loss / d m, with the sequence's mean loss. It tells how much the loss
answers the silencing of a unit, as far as gradients do (Kwon et al. 2022, arXiv 2204.09656).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from come.events import OnProgress
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.statistics import Statistics, sensitivities
from come.models import Bundle
from come.pruning.gradients import mask_gradients

Units = Callable[[int], tuple[Tensor, Tensor]]
"""Gives, of a layer, the sensitivity of its KV groups, (kv_heads,), and of its FFN channels, (channels,)."""


def by_magnitude(bundle: Bundle, statistics: Statistics) -> Units:
    """The sensitivity of a KV group is the mean of its channels'; each layer's is made when it is asked for."""
    layers = list(bundle.layers)

    @functools.cache
    def of(layer: int) -> tuple[Tensor, Tensor]:
        attention, channels = sensitivities(statistics, bundle.family, layers, layer)
        return attention.unflatten(0, (bundle.shape.kv_heads, -1)).mean(1), channels

    return of


def by_fisher(
    bundle: Bundle,
    tokens: Tensor,
    lowest: int = 0,
    *,
    borders: HiddenStateCache | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> Units:
    """Fisher information on the masks of the units, of all layers from ``lowest`` on: one way up and one back.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens).
        lowest: the lowest layer that is asked for.
        borders: hidden states of the model on these tokens; what is missing is run.
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer.

    Raises:
        ComeError: hidden states or gradients are not finite.
    """
    gradients = mask_gradients(bundle, tokens, batch_size, on_progress, lowest=lowest, borders=borders)
    kv_groups, channels = (each.square().mean(0) for each in gradients)
    return lambda layer: (kv_groups[layer], channels[layer])
