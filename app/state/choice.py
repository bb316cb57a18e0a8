"""What a visitor chooses, as plain values: the model and its text, and the draft of a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from come.pruning.registry import PAPER, method_for, takes_windows
from come.request import Bos


@dataclass(frozen=True)
class Choice:
    """Which model is looked at, and over which tokens."""

    model: str = "smollm2-135m"
    text: str = "python-docs"
    tokens: int = 4096
    seq_len: int = 512
    seed: int = 0
    bos: Bos = "auto"


@dataclass(frozen=True)
class Draft:
    """The plan as the visitor has it so far; at most one of target_layers, sparsity, windows is set.

    None of the three set means the default: a fifth of the parameters, chosen automatically. ``dropped`` are layers
    that go whole, ascending; like ``ratios`` they are only beside windows. Numbers are as exact as the URL writes them,
    so that a draft that went through a link or a reload is the same, and finds its run.
    """

    method: str = ""
    target_layers: int | None = None
    sparsity: float | None = None
    windows: list[tuple[int, int]] | None = None
    ratios: list[tuple[float, ...]] | None = None
    dropped: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Round what the URL rounds, and name the method that none names."""
        if not self.method:
            by_hand = {"windows": self.windows, "ratios": self.ratios, "drop": self.dropped or None}
            given = [*self.options, *(name for name, value in by_hand.items() if value is not None)]
            object.__setattr__(self, "method", method_for(given))
        object.__setattr__(self, "ratios", [shares(ratio) for ratio in self.ratios] if self.ratios else None)
        if self.sparsity is not None:
            object.__setattr__(self, "sparsity", float(sparsity_text(self.sparsity)))

    @property
    def is_empty(self) -> bool:
        """Whether it is a plan by hand that leaves every layer as it is."""
        return self.windows == [] and not self.dropped


OF_A_CHOICE = ("span", "no_repeat", "select", "windows_tried", "layers_tried")  # options that choose windows


def by_hand(
    draft: Draft,
    windows: Sequence[tuple[int, int]],
    ratios: Sequence[tuple[float, ...]] | None = None,
    dropped: Sequence[int] = (),
) -> Draft:
    """The plan with these windows and dropped layers chosen by hand, as they are given.

    The method stays where it takes windows by hand; from any other one goes on with CoMe.
    """
    method = draft.method if takes_windows(draft.method) else PAPER
    options = {name: value for name, value in draft.options.items() if name not in OF_A_CHOICE}
    return Draft(
        method=method,
        windows=list(windows),
        ratios=None if ratios is None else list(ratios),
        dropped=tuple(dropped),
        options=options if draft.method == method else {},
    )


DEFAULT_SPARSITY = 0.2
LARGEST = 10**15  # of a whole number: the widgets of a page take little more
DIGITS = 6  # of a share, behind the point


def shares(ratio: Sequence[float]) -> tuple[float, ...]:
    """A ratio in the digits that the URL has; what rounding adds or takes is made good on the largest share."""
    rounded = [round(share, DIGITS) for share in ratio]
    if abs(sum(rounded) - 1) < 1e-3:
        largest = rounded.index(max(rounded))
        rounded[largest] = round(1 - sum(rounded[:largest] + rounded[largest + 1 :]), DIGITS)
    return tuple(rounded)


def sparsity_text(share: float) -> str:
    """A share of the parameters in the digits that the URL has."""
    return f"{share:.6g}"


def plan_fields(plan: Draft) -> dict[str, Any]:
    """A plan as the fields of a RunConfig: method, target_layers, sparsity, options."""
    options = dict(plan.options)
    sparsity = plan.sparsity
    if plan.windows is not None:
        options["windows"] = plan.windows
        if plan.ratios is not None:
            options["ratios"] = plan.ratios
        if plan.dropped:
            options["drop"] = plan.dropped
    elif plan.target_layers is None and sparsity is None:
        sparsity = DEFAULT_SPARSITY
    return {
        "method": plan.method,
        "target_layers": plan.target_layers,
        "sparsity": sparsity,
        "options": comparable(options),
    }


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """Options with lists for tuples, as JSON has them, and ratios in the digits of a draft's."""
    plain: dict[str, Any] = json.loads(json.dumps(options))
    if ratios := plain.get("ratios"):
        plain["ratios"] = [list(shares(ratio)) if isinstance(ratio, list) else ratio for ratio in ratios]
    return plain
