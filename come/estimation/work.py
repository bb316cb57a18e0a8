"""The work of a run in layers run, candidates scored and bytes moved, and how long a device takes over it.

The counts of numbers read and written by elementwise work were fitted, part by part, to times on a CPU (docs/cost.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from come.estimation.device import Device
from come.models import Facts
from come.models.facts import BYTES
from come.pruning.schedule import Schedule
from come.text.sampled import at_once
from come.transforms.refit import RefitRules
from come.transforms.ridge import MIXTURES, STRIPS

LAYER_CALL = 5e-4  # seconds that Python takes to run a layer once, whatever the batch
# Numbers that elementwise work reads and writes for a token.
FFN_NUMBERS = 5  # an FFN channel: the gate
HIDDEN_NUMBERS = 16  # a channel of the hidden state: two norms, two additions
ROTARY_NUMBERS = 10  # a channel of queries and keys
CHANNEL_SUM_NUMBERS = 7  # a measured channel: the sum of absolute values
PAIR_NUMBERS = 8  # a channel of the hidden state, for each pair of borders compared
LOGIT_BYTES = 80  # a logit: writing it, the loss in float32
PAIR_BYTES = 40  # an entry of the cosine and angular matrices
PROBE_PASSES = 400  # over the states of a task's choices, while a mix and a head are learned; fitted to times on a CPU
MERGE_SECONDS = 0.08  # a merge, beside moving its weights: choice, plan, modules
CKA_TOKENS = 2048
FLOAT32_SLOWER = {"cuda": 16}  # than 16 bits, where its speed is not known: no tensor cores; elsewhere half as fast


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

    def refit(self, n_tokens: int, count: float) -> float:
        """Seconds to refit the FFN output map of so many layers: a run of each, the sums, the ridge."""
        channels, outputs = self.facts.intermediate_size, self.facts.hidden_size
        strengths = len(RefitRules().strengths)
        sums = n_tokens * ((1 + 1 / STRIPS) * channels**2 + 2 * channels * outputs)
        factor = channels**3 / 3
        compared = strengths * (factor + 4 * channels**2 * min(MIXTURES, outputs)) + 2 * channels**2 * outputs
        solved = 2 * (factor + 2 * channels**2 * outputs)  # float64, at half of float32's speed
        return self.layers(count, n_tokens) + count * (sums + compared + solved) / self.float32_speed

    @property
    def float32_speed(self) -> float:
        """FLOP/s of matrix products in float32, whatever the run's dtype."""
        slower = 1 if self.dtype == "float32" else FLOAT32_SLOWER.get(self.device.kind, 2)
        return self.device.flops.get("float32") or self.device.linear_speed(self.dtype) / slower

    def schedule(self, schedule: Schedule, n_tokens: int) -> float:
        """Seconds for all that a method runs."""
        n_tokens -= schedule.scoring_tokens
        passes = sum(self.layers(count, n_tokens, measured=True) for count in schedule.passes)
        scored = self._candidates(schedule.candidates, schedule.candidate_tokens or n_tokens)
        scored += self._candidates(schedule.scored, schedule.scoring_tokens)
        plain = self.layers(schedule.unmeasured, n_tokens) + schedule.heads * self.head(n_tokens)
        in_float32 = 2 * schedule.in_float32 * self.facts.layer_parameters * n_tokens
        slower = in_float32 * (1 / self.float32_speed - 1 / self.device.linear_speed(self.dtype))
        seen = self.similarities(schedule.similarity, n_tokens)
        merged = schedule.merges * self.merge(schedule.span)
        refitted = self.layers(schedule.refit_layers, n_tokens) if schedule.refits else 0.0
        refitted += self.refit(n_tokens, schedule.refits) if schedule.refits else 0.0
        trained = self.layers(*schedule.trained) + schedule.seconds
        solved = schedule.products / self.float32_speed
        return passes + scored + plain + slower + seen + merged + refitted + trained + solved

    def _candidates(self, candidates: Sequence[tuple[int, float]], n_tokens: int) -> float:
        """Seconds to make and score so many changed models, with so many layers run for each, over tokens."""
        return sum(
            tried * (self.layers(count, n_tokens) + self.head(n_tokens) + self.merge(2)) for tried, count in candidates
        )

    def decoding(self, n_tokens: int, layers: int) -> float:
        """Seconds to write tokens one at a time: all weights are read for each."""
        weights = self.facts.bytes_at(layers, self.dtype)
        return n_tokens * (weights / self.device.bandwidth + layers * LAYER_CALL)

    def sampling(self, n_tokens: int, layers: int | None = None) -> float:
        """Seconds for a model of so many layers (all) to write text, several sequences a step: each reads all weights.

        So many tokens are written at once.
        """
        facts, sequences, layers = self.facts, n_tokens // self.seq_len, layers or self.facts.layers
        kept = (layers, facts.num_key_value_heads, facts.head_dim, self.seq_len, BYTES[self.dtype])
        steps = -(-sequences // at_once(*kept)) * self.seq_len
        return self.decoding(steps, layers) + self.layers(layers, n_tokens) + self.head(n_tokens)

    def probing(self, layers: int, n_tokens: int, choices: int) -> float:
        """Seconds to read choices of so many tokens together, and to learn on the CPU what tells them apart."""
        device, states = self.device, 4 * choices * (layers + 1) * self.facts.hidden_size
        bandwidth = device.host_bandwidth if device.kind == "cuda" else device.bandwidth
        return self.layers(layers, n_tokens) + PROBE_PASSES * states / bandwidth

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
