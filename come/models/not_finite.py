"""Why a model's values are no numbers: the layer where they overflow first, or weights that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.models.bundle import Bundle
from come.models.offload import input_device, weight_of

AGAIN = "Fetch or convert the model again."
OTHERWISE = "Look at the original, or choose another method."  # for a pruned model, which nobody can fetch
FIRST = " (the first is 0)"  # behind the number of a layer
WIDER = {torch.float16: "Use bfloat16 or float32.", torch.bfloat16: "Use float32."}


class Place(NamedTuple):
    """A part of a model, in words, and the path of its module."""

    name: str
    path: str


def refuse_not_finite(bundle: Bundle) -> None:
    """Refuse a model with weights that are infinite or no numbers, wherever they are; those in memory are looked at.

    Raises:
        ComeError: there are such weights; the first of them.
    """
    for weight in bundle.model.parameters():
        if not weight.is_meta and weight.numel():
            ends = torch.stack(weight.detach().aminmax())
            if not bool(ends.isfinite().all()):
                raise why_not_finite(bundle)


def why_not_finite(bundle: Bundle, tokens: Tensor | None = None) -> ComeError:
    """What to tell of a model that gave values which are infinite or no numbers; it is run once more, watched.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens), on which it did; None where it was not run.

    Returns:
        An error that names the first place where values are not finite, or weights there that are not (of the whole
        model, where there is no such place), and says what to do.
    """
    place = None
    if tokens is not None:  # what is measured of values that are finite may still need their squares
        place = first_place(bundle, tokens) or first_place(bundle, tokens, squared=True)
    dtype = str(bundle.dtype).removeprefix("torch.")
    pruned = bundle.plan is not None and bool(bundle.plan.steps)
    whose, again = ("the pruned model's", OTHERWISE) if pruned else ("the model's", AGAIN)
    wider = WIDER.get(bundle.dtype, again)
    for name, weight in _weights(bundle, place.path if place else ""):
        if bool(weight.isnan().any()):
            return ComeError(f"Some of {whose} weights are not numbers, first of all in {name}.", again)
        if bool(weight.isinf().any()):
            return ComeError(f"Some of {whose} weights, first of all in {name}, overflow in {dtype}.", wider)
    if place is None:
        return ComeError(f"{whose.capitalize()} values overflow in {dtype}.", wider)
    return ComeError(f"In {place.name} {whose} values overflow in {dtype}.", wider)


def first_place(bundle: Bundle, tokens: Tensor, squared: bool = False) -> Place | None:
    """The first part of a model that gives values which are not finite, on some tokens; None if none does.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens).
        squared: also count values whose squares, in float32, are not.
    """
    family = bundle.family
    places = [
        *(Place("the embeddings", path) for path in family.embeddings),
        *(Place(f"layer {layer}{FIRST}", f"{family.layers}.{layer}") for layer in range(len(bundle.layers))),
        Place("the final norm", family.final_norm),
        Place("the head", family.head),
    ]
    found: list[Place] = []

    def watch(place: Place) -> Callable[[nn.Module, Any, Any], None]:
        def see(_module: nn.Module, _given: Any, made: Any) -> None:
            values: Tensor = made if isinstance(made, Tensor) else made[0]
            values = values.float().square() if squared else values
            if not found and not bool(values.isfinite().all()):
                found.append(place)

        return see

    with ExitStack() as hooks, torch.no_grad():
        for place in places:
            handle = bundle.model.get_submodule(place.path).register_forward_hook(watch(place))
            hooks.callback(handle.remove)
        for sequence in tokens:  # logits are the memory peak: one sequence at a time
            bundle.model(sequence[None].to(input_device(bundle.model)), use_cache=False)
            if found:
                return found[0]
    return None


def _weights(bundle: Bundle, path: str) -> Iterator[tuple[str, Tensor]]:
    """The weights of the module at a path with their names, one at a time, fetched where they are elsewhere."""
    for name, module in bundle.model.get_submodule(path).named_modules(prefix=path):
        for own in module._parameters:
            if (weight := weight_of(module, own)) is not None:
                yield f"{name}.{own}", weight
