"""What the runs of one process share, the cells of a sweep above all: model, tokens, measuring passes, references."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.evaluate import Perplexity, Reference
from come.events import OnProgress, emit
from come.models import Bundle, load
from come.plan.plan import Plan
from come.request import RunConfig, Use
from come.runs.reference_cache import kept_reference
from come.text import short_name, tokens


@dataclass(frozen=True)
class Chain:
    """The plan that a step-by-step method came to for one target: a run for fewer layers goes on from it.

    Attributes:
        plan: its steps.
        history: the record of each step, as results.json holds it.
        seconds: what they took.
    """

    plan: Plan
    history: list[dict[str, Any]]
    seconds: float

    def plan_for(self, target_layers: int) -> Plan:
        """The plan with another target: the first steps of a run for fewer layers."""
        return self.plan.model_copy(update={"options": {**self.plan.options, "target_layers": target_layers}})


@dataclass
class Shared:
    """A cache in memory of the last model that was loaded and of all that was computed with it.

    Attributes:
        measured: measuring passes over the calibration tokens, which ``compress`` looks up and adds.
    """

    measured: dict[Any, Any] = field(default_factory=dict)
    _bundles: dict[Any, Bundle] = field(default_factory=dict)
    _tokens: dict[Any, Tensor] = field(default_factory=dict)
    _references: dict[Any, tuple[Reference, Perplexity]] = field(default_factory=dict)
    _chains: dict[str, Chain] = field(default_factory=dict)

    def bundle(self, config: RunConfig, on_progress: OnProgress = None) -> Bundle:
        """The model of a run. Only the last one is kept: models are large."""
        key = config.model, config.device, config.dtype
        if key not in self._bundles:
            for known in (self.measured, self._bundles, self._tokens, self._references, self._chains):
                known.clear()
            self._bundles[key] = load(config.model, config.device, config.dtype, on_progress)
        return self._bundles[key]

    def tokens(self, bundle: Bundle, config: RunConfig, use: Use, on_progress: OnProgress = None) -> Tensor:
        """The tokens that a run takes for a use, int64 (sequences, tokens)."""
        text, count, split, seed = config.text_of(use)
        key = text, count, config.seq_len, split, seed, config.bos
        if key not in self._tokens:
            named = short_name(text)
            emit(on_progress, "text", 0, 1, f"Reading {named} {_FOR[use]}")
            try:
                self._tokens[key] = tokens(bundle, text, count, config.seq_len, split, seed, on_progress, config.bos)
            except ComeError as error:
                raise ComeError(error.what, f"{error.hint} For {use} this is {_OPTIONS[use]}.".strip()) from error
            emit(on_progress, "text", 1, 1, f"{self._tokens[key].numel():,} tokens of {named} {_FOR[use]}")
        return self._tokens[key]

    def reference(
        self, original: Bundle, held_out: Tensor, batch_size: int | None, on_progress: OnProgress = None
    ) -> tuple[Reference, Perplexity]:
        """The original's predictions on held-out tokens, int64 (sequences, tokens), and its perplexity there."""
        key = hashlib.sha256(held_out.numpy().tobytes()).hexdigest(), held_out.shape, batch_size
        if key not in self._references:
            self._references.clear()  # its states are large, and the runs of a seed come together
            self._references[key] = kept_reference(original, held_out, batch_size, on_progress)
        return self._references[key]

    def chain(self, config: RunConfig, options: dict[str, Any]) -> Chain | None:
        """What the last run of the same request, but for its target, came to."""
        return self._chains.get(_chain_key(config, options))

    def keep_chain(self, config: RunConfig, options: dict[str, Any], chain: Chain) -> None:
        """Keep what a run came to, for later runs of the same request with fewer layers."""
        self._chains[_chain_key(config, options)] = chain


_FOR: dict[Use, str] = {"calibration": "for calibration", "recovery": "for recovery", "evaluation": "for judging"}
_OPTIONS: dict[Use, str] = {
    "calibration": "--text and --tokens",
    "recovery": "--recover-text and --recover-tokens",
    "evaluation": "--evaluation-text and --evaluation-tokens",
}


def _chain_key(config: RunConfig, options: dict[str, Any]) -> str:
    asked = [config.text, config.n_tokens, config.seq_len, config.seed, config.bos]
    return json.dumps([config.method, options, *asked])
