"""A model with more decoder layers: a plain one of the same architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from come.errors import ComeError
from come.events import OnProgress
from come.growing.growth import Fit, GrowTask, Growth
from come.growing.registry import growth
from come.models import Bundle
from come.models.depth import with_layers
from come.models.not_finite import refuse_not_finite
from come.models.offload import is_offloaded
from come.options import parse_options


@dataclass(frozen=True)
class Grown:
    """What came of growing.

    Attributes:
        bundle: the grown model.
        origins: for each of its layers, the layer of the original whose place it has.
        new: which of its layers are not the original's own.
        fits: how well each linear map was learned, by its path; empty where nothing was.
    """

    bundle: Bundle
    origins: tuple[int, ...]
    new: tuple[int, ...]
    fits: Mapping[str, Fit]


def grow(
    bundle: Bundle,
    method: str = "lesa",
    *,
    layers: int | None = None,
    after: Iterable[int] | None = None,
    seed: int = 0,
    on_progress: OnProgress = None,
    **options: Any,
) -> Grown:
    """A deeper model; nothing is trained but what predicts the new layers.

    Args:
        bundle: the model; it stays as it is, and the grown one shares the weights of the layers that it keeps.
        method: a name of ``come.growing.growths``.
        layers: how many layers the grown model has; may be left out where ``after`` is given.
        after: the layers that a new one is put behind; the method chooses them otherwise.
        seed: for whatever is drawn.
        on_progress: told of each part.
        **options: the method's.

    Raises:
        ComeError: there is no such method or option, the number of layers or a place is out of bounds, or the model
            is quantized, lies partly outside of memory or has layers that the method cannot grow.
    """
    chosen = growth(method)
    parsed = parse_options(chosen.options, options, chosen.name)
    places = tuple(sorted(after)) if after is not None else None
    count = _layers(bundle, chosen, layers, places)
    refuse_unfit(bundle)
    task = GrowTask(bundle, count, places, seed, on_progress)
    made = chosen.function(task, parsed)
    origins = tuple(layer.origin for layer in made)
    new = tuple(number for number, layer in enumerate(made) if layer.new)
    deeper = with_layers(bundle, [layer.module for layer in made], origins)
    refuse_not_finite(deeper)
    return Grown(replace(deeper, notes=(*bundle.notes, _note(bundle, chosen, new, count))), origins, new, task.fits)


def refuse_unfit(bundle: Bundle) -> None:
    """Refuse a model whose weights are not at hand as they are.

    Raises:
        ComeError: it lies partly outside of memory, or its weights are packed.
    """
    if is_offloaded(bundle.model):
        raise ComeError("A model that lies partly outside of memory is not grown.", "Use a machine on which it fits.")
    if getattr(bundle.model, "is_quantized", False) or any(
        not weight.is_floating_point() or weight.element_size() < 2 for weight in bundle.model.parameters()
    ):
        raise ComeError("A quantized model is not grown.", "Choose the model that it was made from.")


def _layers(bundle: Bundle, chosen: Growth, layers: int | None, after: tuple[int, ...] | None) -> int:
    """How many layers there are to be.

    Raises:
        ComeError: they or the places are out of bounds, or do not agree.
    """
    there = len(bundle.layers)
    if after is not None:
        if not chosen.places:
            raise ComeError(f"{chosen.title} leaves no choice of places.", "Leave them out, and give layers.")
        last = there - 1 - chosen.below_last
        if not after or not 0 <= after[0] <= after[-1] <= last:
            raise ComeError(
                f"A new layer of {chosen.title} has its place behind one of layers 0 to {last}.", "Name some of these."
            )
        if len(set(after)) < len(after):
            raise ComeError("A place is named twice.", "Behind each layer there is room for one.")
        if layers not in (None, there + len(after)):
            raise ComeError(
                f"{there} layers and {len(after)} new ones are {there + len(after)}, not {layers}.",
                "Give either layers or places.",
            )
        layers = there + len(after)
    if layers is None:
        raise ComeError(
            "It is not said how many layers there are to be.",
            "Give layers (--layers), or behind which layers a new one comes (--after).",
        )
    most = chosen.most(there)
    if not there < layers <= most:
        raise ComeError(
            f"{chosen.title} cannot grow a model of {there} layers to {layers}.",
            f"Give {there + 1} to {most}." if most > there else "Choose another way.",
        )
    return layers


def _note(bundle: Bundle, chosen: Growth, new: tuple[int, ...], count: int) -> str:
    paper = f" ({chosen.paper})" if chosen.paper else ""
    return (
        f"Grown from {len(bundle.layers)} to {count} layers by {chosen.title}{paper}, and not trained since. "
        f"Its new layers: {', '.join(map(str, new))}."
    )
