"""What the runs of one process have in common: each model, text and measuring pass is made once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from come.evaluate import Perplexity, Reference
from come.events import OnProgress, emit
from come.models import Bundle, load
from come.plan.plan import Plan
from come.request import RunConfig, Use
from come.runs.reference_cache import kept_reference
from come.text import tokens


@dataclass(frozen=True)
class Chain:
    """How far a step-by-step method has come: a run for fewer layers goes on from there.

    Attributes:
        plan: what was done.
        history: what was decided at each step, as results hold it.
        seconds: what it took.
    """

    plan: Plan
    history: list[dict[str, Any]]
    seconds: float

    def plan_for(self, target_layers: int) -> Plan:
        """The plan as the beginning of one for fewer layers."""
        return self.plan.model_copy(update={"options": {**self.plan.options, "target_layers": target_layers}})


@dataclass
class Shared:
    """A model and its texts, for as many runs as ask for them.

    Attributes:
        measured: measuring passes over the calibration tokens (``compress`` takes them up and adds to them).
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
        key = text, count, config.seq_len, split, seed
        if key not in self._tokens:
            emit(on_progress, "text", 0, 1, f"Reading {text}")
            self._tokens[key] = tokens(bundle, text, count, config.seq_len, split, seed)
            emit(on_progress, "text", 1, 1, f"{self._tokens[key].numel():,} tokens of {text}")
        return self._tokens[key]

    def reference(
        self, original: Bundle, held_back: Tensor, batch_size: int | None, on_progress: OnProgress = None
    ) -> tuple[Reference, Perplexity]:
        """An original model's predictions on held-back tokens, and its perplexity there."""
        key = hashlib.sha256(held_back.numpy().tobytes()).hexdigest(), held_back.shape, batch_size
        if key not in self._references:
            self._references.clear()  # its states are large, and the runs of a seed come together
            self._references[key] = kept_reference(original, held_back, batch_size, on_progress)
        return self._references[key]

    def chain(self, config: RunConfig, options: dict[str, Any]) -> Chain | None:
        """What a run of the same request, but for its target, has come to."""
        return self._chains.get(_chain_key(config, options))

    def keep_chain(self, config: RunConfig, options: dict[str, Any], chain: Chain) -> None:
        """Let later runs of the same request, but for the target, go on from there."""
        self._chains[_chain_key(config, options)] = chain


def _chain_key(config: RunConfig, options: dict[str, Any]) -> str:
    return json.dumps([config.method, options, config.text, config.n_tokens, config.seq_len, config.seed])
