"""What CoMe would do, told from one measurement: nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.numbers import is_number
from come.plan.steps import Concatenate
from come.pruning.allocate import allocate, check_ratio, concatenation, most_sensitive, ratio_from_influence
from come.pruning.windows import Window, check_target, check_windows, choose, window_size
from come.transforms.compatible import check_mixable, check_reach, mixable


@dataclass(frozen=True)
class DraftWindow:
    """One window of original layers, inclusive, and what its merged layer would keep of each.

    Attributes:
        first, last: the window.
        ratio: the share of each layer.
        kept_kv, kept_channels: for each layer, the indices of the KV groups and FFN channels kept.
        skip_influence: the angular distance over the window, where it was measured; else NaN.
    """

    first: int
    last: int
    ratio: tuple[float, ...]
    kept_kv: list[list[int]]
    kept_channels: list[list[int]]
    skip_influence: float

    @property
    def kv_groups(self) -> tuple[int, ...]:
        """How many KV groups are kept of each layer."""
        return tuple(map(len, self.kept_kv))

    @property
    def channels(self) -> tuple[int, ...]:
        """How many FFN channels are kept of each layer."""
        return tuple(map(len, self.kept_channels))


def draft(
    measurement: Measurement,
    target_layers: int | None = None,
    *,
    windows: Sequence[Window] | None = None,
    ratios: Sequence[Sequence[float] | None] | None = None,
    span: int = 2,
    exponent: float = 1.0,
    floor: float = 0.0,
    no_repeat: bool = True,
    model: Any = None,
) -> list[DraftWindow]:
    """The windows that CoMe would merge and what it would keep of each layer.

    For windows by hand this is exactly what a run on the same tokens does. For a target it is an estimate: a run
    measures again after every merge, this takes everything from the one measurement.

    Args:
        measurement: of the original model.
        target_layers: how many layers to leave; not together with ``windows``.
        windows: by hand, (first, last) inclusive.
        ratios: for windows by hand: one ratio a window, None for automatic ones.
        span, exponent, floor, no_repeat: CoMe's options.
        model: the model, its facts or its config, so that layers that cannot become one are left apart.

    Raises:
        ComeError: the target, a window, a ratio or an option is impossible.
    """
    for name, value in (("exponent", exponent), ("floor", floor), ("span", span)):
        if not is_number(value, whole=name == "span") or value < 0 or (name == "floor" and value > 1):
            raise ComeError(f"The option {name} cannot be {str(value)[:40]}.", "`come methods` tells what it takes.")
    if windows is not None:
        if target_layers is not None:
            raise ComeError(
                "Windows and a target cannot be given together.",
                "The windows alone say how many layers are left.",
            )
        steps = steps_by_hand(measurement, windows, ratios, exponent, floor)
        check_mixable(model, windows)
        gone = 0
        drafts = []
        for step in steps:  # back from the numbering of each step to that of the original
            first, last = step.window[0] + gone, step.window[1] + gone
            gone += last - first
            distance = _distance(measurement, first, last)
            drafts.append(DraftWindow(first, last, tuple(step.ratio), step.kv_groups, step.channels, distance))
        return drafts
    if ratios is not None:
        raise ComeError("Ratios go with windows.", "Give windows as well, one ratio each.")
    if target_layers is None:
        raise ComeError("Nothing says how far to prune.", "Give target_layers or windows.")
    check_target(target_layers, measurement.layers)
    check_reach(model, measurement.layers, target_layers, span)
    return _automatic(measurement, target_layers, span, exponent, floor, no_repeat, model)


def steps_by_hand(
    measurement: Measurement,
    windows: Sequence[Window],
    ratios: Sequence[Sequence[float] | None] | None,
    exponent: float,
    floor: float,
) -> list[Concatenate]:
    """The steps that merge windows of original layers, lowest first, each in the numbering of its step."""
    ordered = check_windows(windows, measurement.layers)
    if ratios is not None and len(ratios) != len(windows):
        raise ComeError(
            f"There are {len(ratios)} ratios for {len(windows)} windows.",
            "Give one ratio a window, or none at all.",
        )
    given = dict(zip([tuple(window) for window in windows], ratios, strict=True)) if ratios is not None else {}
    steps, gone = [], 0
    for first, last in ordered:
        influence = measurement.block_influence[first : last + 1].tolist()
        ratio = given.get((first, last))
        if ratio is None:
            ratio = ratio_from_influence(influence, exponent, floor, last - first + 1)
        check_ratio(ratio, last - first + 1)
        kv_groups = measurement.kv_group_sensitivity[first : last + 1]
        channels = measurement.mlp_sensitivity[first : last + 1]
        steps.append(concatenation((first - gone, last - gone), ratio, list(kv_groups), list(channels)))
        gone += last - first
    return steps


def fitted_window(measurement: Measurement, first: int, last: int) -> DraftWindow:
    """A window whose channels a run solves for: the first layer's attention, and the most sensitive channels of all."""
    size, sensitivity = last - first + 1, measurement.mlp_sensitivity[first : last + 1]
    channels = sensitivity.shape[1]
    best = most_sensitive(sensitivity.flatten(), channels)
    kept = [[int(unit) - at * channels for unit in best if int(unit) // channels == at] for at in range(size)]
    kept_kv = [list(range(measurement.kv_group_sensitivity.shape[1])), *([] for _ in range(size - 1))]
    ratio = tuple(len(units) / channels for units in kept)
    return DraftWindow(first, last, ratio, kept_kv, kept, _distance(measurement, first, last))


@dataclass
class _Group:
    """A layer of the draft: the original layers it stands for, and the units it keeps, (units, 2).

    A unit is told by its original layer and its index there.
    """

    first: int
    last: int
    influence: float
    kv_units: Tensor
    channel_units: Tensor


def _automatic(
    measurement: Measurement, target: int, span: int, exponent: float, floor: float, no_repeat: bool, model: Any
) -> list[DraftWindow]:
    kv, ffn = measurement.kv_group_sensitivity, measurement.mlp_sensitivity
    groups = [
        _Group(
            layer,
            layer,
            float(measurement.block_influence[layer]),
            _all_units(layer, kv.shape[1]),
            _all_units(layer, ffn.shape[1]),
        )
        for layer in range(measurement.layers)
    ]
    while len(groups) > target:
        size = window_size(span, len(groups), target)
        windows = [(groups[at].first, groups[at + size - 1].last) for at in range(len(groups) - size + 1)]
        possible = torch.tensor([mixable(model, *window) is None for window in windows])
        # A distance that was not measured comes last.
        distances = torch.tensor([_distance(measurement, *window) for window in windows]).nan_to_num(nan=1.0)
        distances = distances.where(possible, torch.inf)
        first, last = choose(distances, size, [group.last > group.first for group in groups], no_repeat)
        groups[first : last + 1] = [_join(measurement, groups[first : last + 1], exponent, floor)]
    return [_as_window(measurement, group) for group in groups if group.last > group.first]


def _all_units(layer: int, units: int) -> Tensor:
    return torch.stack([torch.full((units,), layer), torch.arange(units)], dim=1)


def _join(measurement: Measurement, window: list[_Group], exponent: float, floor: float) -> _Group:
    stands_for = window[-1].last - window[0].first + 1
    ratio = ratio_from_influence([group.influence for group in window], exponent, floor, stands_for)

    def keep(units: list[Tensor], sensitivity: Tensor) -> Tensor:
        counts = allocate(len(units[0]), ratio)
        return torch.cat(
            [each[most_sensitive(sensitivity[tuple(each.T)], n)] for each, n in zip(units, counts, strict=True)]
        )

    first, last = window[0].first, window[-1].last
    cosine = measurement.similarity.get("cosine")
    influence = 1 - float(cosine[first, last + 1]) if cosine is not None else sum(g.influence for g in window)
    return _Group(
        first,
        last,
        influence,
        keep([group.kv_units for group in window], measurement.kv_group_sensitivity),
        keep([group.channel_units for group in window], measurement.mlp_sensitivity),
    )


def _as_window(measurement: Measurement, group: _Group) -> DraftWindow:
    layers = range(group.first, group.last + 1)
    kept_kv, kept = (
        [units[units[:, 0] == layer, 1].tolist() for layer in layers] for units in (group.kv_units, group.channel_units)
    )
    ratio = tuple(len(units) / len(group.channel_units) for units in kept)
    return DraftWindow(group.first, group.last, ratio, kept_kv, kept, _distance(measurement, group.first, group.last))


def _distance(measurement: Measurement, first: int, last: int) -> float:
    """The angular distance over layers ``first`` to ``last``, from whatever the measurement holds of it."""
    if last - first + 1 == measurement.span:
        return float(measurement.skip_influence[first])
    angular = measurement.similarity.get("angular")
    return float(angular[first, last + 1]) if angular is not None else float("nan")
