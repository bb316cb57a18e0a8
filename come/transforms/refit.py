"""Least-squares refit: the output projections of a layer, moved so that the layer gives what its window gave.

The layer's output is linear in the projection that its FFN ends with, so the best change of it on the calibration
tokens has a closed form, and needs the normal equations only: X'WX (channels, channels) and X'WR (channels,
hidden_size). The idea of closed-form reconstruction is in Kwon et al. 2022, arXiv 2204.09656. The layer is run once for
them; what a change does for held-out tokens follows from those of the held-out tokens. The attention's output
projection is treated likewise, as if the FFN did not react to it (in a parallel block it does not); where a norm
follows a sub-layer (Gemma, GLM-4, OLMo 2), its scale is taken as it is: such a change is run on the held-out tokens.
Either way it is taken only where the layer comes nearer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from come.errors import ComeError
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import states_at
from come.models import Bundle
from come.options import Options
from come.transforms.normal_equations import (
    NormalEquations,
    StateBatches,
    TokenWeight,
    accumulate_normal_equations,
    squared,
    token_weights,
)
from come.transforms.ridge import best_strength, solve


class RefitRules(Options):
    """How a refit is done."""

    maps: Literal["ffn", "both"] = Field(
        "ffn", description="Refit the map that the FFN ends with, or that of the attention before it too (both)."
    )
    token_weight: TokenWeight = Field(
        "norm",
        description="Weigh a token by 1 over its target's norm, by its square, or all alike (none). Without weights "
        "a few massive activations own the fit.",
    )
    strengths: tuple[float, ...] = Field(
        (1e-3, 1e-2, 1e-1),
        description="What the ridge is chosen from on held-out tokens, as a share of the mean diagonal of X'WX.",
    )

    @model_validator(mode="after")
    def _some_above_zero(self) -> Self:
        if not self.strengths or any(strength <= 0 for strength in self.strengths):
            raise ComeError("A refit needs ridge strengths above 0.", "Give a short list, such as 0.001, 0.01, 0.1.")
        return self


@dataclass(frozen=True)
class Refit:
    """What a refit of one layer came to.

    Attributes:
        tensors: the new weights and biases, by their names in the layer, in its dtype; none where nothing helped.
        before, after: the weighted squared error on held-out tokens, as a share of the targets' own.
        strengths: by map, the ridge strength that was chosen.
    """

    tensors: dict[str, Tensor]
    before: float
    after: float
    strengths: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def refit_layer(runner: LayerRunner, layer: int, states: StateBatches, rules: RefitRules) -> Refit:
    """Refit the output maps of one layer of ``runner``, whose own layer is changed; the user's model is not.

    Args:
        runner: the model; it has entered tokens of the shape of each batch.
        layer: which layer. It is run once over all tokens for each map, and once more over the held-out ones after a
            change that it does not answer linearly.
        states: the tokens that are solved for, and those held out: on these the ridge strength is chosen, and they
            decide whether the solution is taken.
        rules: how.

    Raises:
        ComeError: what the layer gives is not finite.
    """
    family, module = runner.family, runner.layers[layer]
    before = error = 0.0
    tensors: dict[str, Tensor] = {}
    chosen: dict[str, float] = {}
    paths = (family.attention_output, family.ffn_output) if rules.maps == "both" else (family.ffn_output,)
    for path in paths:
        equations = accumulate_normal_equations(runner, layer, path, states, rules.token_weight)
        error = equations.error
        check_finite(torch.tensor(error), runner)  # of the model as it is, or of what it is held to
        before = before if path != paths[0] else error
        if error == 0:
            break
        solved = _solution(equations, rules.strengths)
        if solved is None:
            continue
        strength, change = solved
        old = dict(module.get_submodule(path).named_parameters(recurse=False))
        new = _changed(old, change, family.transposed)
        _put(module, path, new)
        if path == family.ffn_output and family.post_norm(path) is None:
            now = equations.error_after(_difference(old, new, family.transposed))
        else:
            now = _held_out_error(runner, layer, states, rules)
        if now < error:
            error, chosen[path] = now, strength
            tensors |= {f"{path}.{name}": value for name, value in new.items()}
        else:
            _put(module, path, old)
    return Refit(tensors, before, error, chosen)


def refit_merge(
    before: Bundle,
    after: Bundle,
    window: tuple[int, int],
    tokens: Tensor,
    rules: RefitRules,
    *,
    held_out: int,
    borders: HiddenStateCache | None = None,
    batch_size: int | None = None,
) -> Refit:
    """Refit the layer that a window has just become, to what the window gave on the same states.

    Args:
        before: the model before the merge.
        after: the model after it; the new layer is at the window's first.
        window: (first, last), in the numbering before the merge.
        tokens: calibration tokens, int64 (sequences, tokens).
        rules: how.
        held_out: how many sequences, the last ones, are held out.
        borders: hidden states of the model before the merge. What enters the window is kept there, too.
        batch_size: as the borders were made with.
    """
    first, last = window
    runner = LayerRunner(after)
    originals: list[LayerRunner] = []  # made only where the window has to be run again

    def wanted(entering: Tensor, part: Tensor) -> Tensor:
        if not originals:
            originals.append(LayerRunner(before))
        originals[0].enter(part)
        for layer in range(first, last + 1):
            entering = originals[0].run(layer, entering)
        return entering

    def states() -> Iterator[tuple[Tensor, Tensor, int]]:
        done = 0
        for batch in batches(tokens, batch_size):
            # Below the window both models are the same.
            entering = states_at(runner, batch.index, batch.tokens, first, borders)
            if borders is not None and borders.get(batch.index, first) is None:
                borders.put(batch.index, first, entering)
            kept = borders.get(batch.index, last + 1) if borders is not None else None
            leaving = kept.to(entering.device) if kept is not None else wanted(entering, batch.tokens)
            fitted = min(max(0, len(tokens) - held_out - done), len(batch.tokens))
            done += len(batch.tokens)
            yield entering, leaving, fitted

    return refit_layer(runner, first, states, rules)


def _solution(equations: NormalEquations, strengths: Sequence[float]) -> tuple[float, Tensor] | None:
    """The best strength with its change of a map, (channels, hidden_size); None where nothing helps."""
    strength = best_strength(equations.fit, equations.held_out, strengths)
    change = solve(equations.fit, strength) if strength is not None else None
    return (strength, change) if strength is not None and change is not None else None


def _held_out_error(runner: LayerRunner, layer: int, states: StateBatches, rules: RefitRules) -> float:
    """The weighted squared error of a layer's output on held-out tokens, as a share of the targets' own."""
    error = whole = 0.0
    for entering, targets, fitted in states():
        if fitted == len(entering):
            continue
        output = runner.run(layer, entering)[fitted:].flatten(0, -2).float()
        target = targets[fitted:].to(output.device).flatten(0, -2).float()
        more_error, more_whole = squared(target, output, token_weights(target, rules.token_weight))
        error, whole = error + more_error, whole + more_whole
    return error / whole if whole else 0.0


def _changed(old: dict[str, nn.Parameter], change: Tensor, transposed: bool) -> dict[str, Tensor]:
    """A map's weight, and its bias where it has one, after a change of (channels, hidden_size)."""
    weight = old["weight"]
    columns = change[: weight.shape[0 if transposed else 1]]
    new = {"weight": columns if transposed else columns.T}
    if "bias" in old:
        new["bias"] = change[-1]
    return {
        name: (old[name].double().to(value.device) + value).to(weight.device, weight.dtype).contiguous()
        for name, value in new.items()
    }


def _difference(old: dict[str, nn.Parameter], new: dict[str, Tensor], transposed: bool) -> Tensor:
    """The change of a map as its dtype holds it, rounded, (channels, hidden_size); float32."""
    weight = new["weight"].float() - old["weight"].float()
    change = weight if transposed else weight.T
    return torch.cat([change, (new["bias"].float() - old["bias"].float())[None]]) if "bias" in new else change


def _put(module: nn.Module, path: str, tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> None:
    for name, value in tensors.items():
        parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
        setattr(module.get_submodule(path), name, parameter)
