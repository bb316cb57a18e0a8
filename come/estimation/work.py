"""The work of a run in layers run, candidates scored and bytes moved, and how long a device takes over it.

The counts of numbers read and written by elementwise work were fitted, part by part, to times on a CPU (docs/cost.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from come.estimation.device import Device
from come.models import Facts
from come.models.facts import BYTES
from come.pruning.progressive import merges_a_pass
from come.pruning.select import window_size

LAYER_CALL = 5e-4  # seconds that Python takes to run a layer once, whatever the batch
# Numbers that elementwise work reads and writes for a token.
FFN_NUMBERS = 5  # an FFN channel: the gate
HIDDEN_NUMBERS = 16  # a channel of the hidden state: two norms, two additions
ROTARY_NUMBERS = 10  # a channel of queries and keys
CHANNEL_SUM_NUMBERS = 7  # a measured channel: the sum of absolute values
PAIR_NUMBERS = 8  # a channel of the hidden state, for each pair of borders compared
LOGIT_BYTES = 80  # a logit: writing it, the loss in float32
PAIR_BYTES = 40  # an entry of the cosine and angular matrices
MERGE_SECONDS = 0.08  # a merge, beside moving its weights: choice, plan, modules
CKA_TOKENS = 2048


@dataclass(frozen=True)
class Schedule:
    """What a method runs over the calibration tokens.

    Attributes:
        passes: for each measuring pass, how many layers it runs.
        merges: how many merges are made.
        candidates: for each merge with a search, (candidates, layers run for each).
        candidate_tokens: over how many tokens candidates are run; None for all.
        unmeasured: how many layers are run over all tokens and only run; the way back through one counts as more.
        heads: how often the head is run over all tokens, counted likewise.
        similarity: the kinds of matrices that the passes make (``come.measure``).
        guessed: whether how many candidates there are depends on what they show, so that this is a guess.
    """

    passes: list[float] = field(default_factory=list)
    merges: int = 0
    candidates: list[tuple[int, float]] = field(default_factory=list)
    candidate_tokens: int | None = None
    unmeasured: float = 0.0
    heads: float = 0.0
    similarity: tuple[str, ...] = ()
    guessed: bool = False


def progressive_schedule(
    facts: Facts, target: int, options: Any, stride: int, likely: Sequence[int] | None = None
) -> Schedule:
    """The schedule of CoMe and CoMe-P.

    Where windows will lie is told by an analysis. Without one they are taken to be spread evenly, so that the lowest
    of k windows starts at 1/(k+1) of the depth and a pass after a single merge runs half of the layers.

    Args:
        facts: the model.
        target: how many layers are left.
        options: the method's options, parsed.
        stride: every which border of the hidden states is kept (``HiddenStateCache``).
        likely: the first layers of the windows, in the original numbering and the likely order of merging.
    """
    sizes, left = [], facts.layers
    while left > target:
        sizes.append(window_size(options.span, left, target))
        left -= sizes[-1] - 1
    if not sizes:
        return Schedule()
    at_once = merges_a_pass(facts.layers, target, options.span, getattr(options, "passes", None))
    longest = max(sizes)
    passes, candidates = [], []
    layers, first, done = facts.layers, 0.0, 0
    while done < len(sizes):
        taken = sizes[done : done + at_once]
        # Borders that are not kept are run again, from the nearest below the first pair of borders that is new.
        again = (stride - 1) / 2 + (longest - 1) * (1 - 1 / stride)
        passes.append(layers - first + min(first, again))
        known = (likely or [])[done : done + at_once]
        # Below a window that is merged later, as many layers are gone as earlier ones took.
        gone = [
            sum(size - 1 for size, lower in zip(sizes, (likely or [])[:done], strict=False) if lower < at)
            for at in known
        ]
        first = min((at - less for at, less in zip(known, gone, strict=True)), default=layers / (len(taken) + 1))
        if hasattr(options, "granularity"):
            below = min(first, (stride - 1) / 2)
            candidates += [(_candidates(facts, options), layers - first - 1 + below)] * len(taken)
        layers -= sum(size - 1 for size in taken)
        done += len(taken)
    return Schedule(passes, len(sizes), candidates)


def by_hand_schedule(facts: Facts, windows: Sequence[Sequence[int]], options: Any) -> Schedule:
    """The schedule of windows by hand: one pass for any; candidates run the whole model, as no border is kept."""
    layers, candidates = facts.layers, []
    for first, last in windows:
        if hasattr(options, "granularity"):
            candidates.append((_candidates(facts, options), float(layers - 1)))
        layers -= last - first
    return Schedule([float(facts.layers)] if windows else [], len(windows), candidates)


def _candidates(facts: Facts, options: Any) -> int:
    """How many different candidates a search scores."""
    from come.pruning.methods.come_p import MOST_CANDIDATES

    different: int = min(options.granularity, facts.intermediate_size) + 1
    return different if options.search == "grid" else min(different, MOST_CANDIDATES)


@dataclass(frozen=True)
class Clock:
    """How long a device takes over the parts of a run of one model.

    Attributes:
        offloaded: the share of the weights that lies in main memory and is fetched whenever a layer runs.
    """

    facts: Facts
    device: Device
    dtype: str
    seq_len: int
    batch_size: int
    offloaded: float = 0.0

    def layers(self, count: float, n_tokens: int, measured: bool = False, spans: int = 2) -> float:
        """Seconds to run that many layers over tokens, with or without the statistics."""
        facts, device, size = self.facts, self.device, BYTES[self.dtype]
        attention_width = facts.num_attention_heads * facts.head_dim
        products = 2 * facts.layer_parameters / device.linear_speed(self.dtype)
        attention = 2 * self.seq_len * attention_width / device.attention_speed(self.dtype)
        numbers = (
            FFN_NUMBERS * facts.intermediate_size
            + HIDDEN_NUMBERS * facts.hidden_size
            + ROTARY_NUMBERS * (facts.num_attention_heads + facts.num_key_value_heads) * facts.head_dim
        )
        if measured:
            numbers += CHANNEL_SUM_NUMBERS * (facts.intermediate_size + attention_width)
            numbers += PAIR_NUMBERS * spans * facts.hidden_size
        a_token = products + attention + numbers * size / device.bandwidth
        if measured and device.kind == "cuda":
            a_token += facts.hidden_size * size / device.host_bandwidth  # borders are kept in main memory
        fetched = self.offloaded * facts.layer_parameters * size / device.host_bandwidth
        return count * (n_tokens * a_token + self._batches(n_tokens) * (LAYER_CALL + fetched))

    def head(self, n_tokens: int) -> float:
        """Seconds for the logits of tokens and their loss."""
        products = 2 * self.facts.vocab_size * self.facts.hidden_size / self.device.linear_speed(self.dtype)
        return n_tokens * (products + self.facts.vocab_size * LOGIT_BYTES / self.device.bandwidth)

    def merge(self, span: int) -> float:
        """Seconds to make one layer of several."""
        size = self.facts.layer_parameters * BYTES[self.dtype]
        return MERGE_SECONDS + (2 + span) * size / self.device.bandwidth

    def schedule(self, schedule: Schedule, n_tokens: int, span: int) -> float:
        """Seconds for all that a method runs."""
        passes = sum(self.layers(count, n_tokens, measured=True) for count in schedule.passes)
        looked_at = schedule.candidate_tokens or n_tokens
        scored = sum(
            tried * (self.layers(count, looked_at) + self.head(looked_at) + self.merge(2))
            for tried, count in schedule.candidates
        )
        plain = self.layers(schedule.unmeasured, n_tokens) + schedule.heads * self.head(n_tokens)
        seen = self.similarities(schedule.similarity, n_tokens)
        return passes + plain + seen + schedule.merges * self.merge(span) + scored

    def decoding(self, n_tokens: int, layers: int) -> float:
        """Seconds to write tokens one at a time: all weights are read for each."""
        weights = self.facts.bytes_at(layers, self.dtype)
        return n_tokens * (weights / self.device.bandwidth + layers * LAYER_CALL)

    def similarities(self, kinds: Sequence[str], n_tokens: int) -> float:
        """Seconds for the similarity matrices of an analysis."""
        facts, device, borders = self.facts, self.device, self.facts.layers + 1
        seconds = 0.0
        if {"cosine", "angular"} & set(kinds):
            entries = borders * borders * n_tokens
            seconds += 2 * entries * facts.hidden_size / device.linear_speed(self.dtype)
            seconds += entries * PAIR_BYTES / device.bandwidth
        if "cka" in kinds:
            tokens = min(CKA_TOKENS, n_tokens)
            products = 2 * tokens * tokens * borders * (facts.hidden_size + borders)
            seconds += products / device.linear_speed(self.dtype)
        return seconds

    def hashing(self) -> float:
        """Seconds for the fingerprint of the weights."""
        return self.facts.bytes_at(self.facts.layers, self.dtype) / self.device.hashing

    def _batches(self, n_tokens: int) -> int:
        return -(-n_tokens // (self.batch_size * self.seq_len))
