"""Streamed statistics of a calibration pass, float32 sums over tokens, and the measures made of them.

Everything is summed for each half of the sequences, so that the stability of a choice costs no second pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from come.models import Bundle, Family


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of each pair of vectors, (..., channels) -> (...), in [0, 1]; 0.5 for a zero vector, NaN for NaN."""
    a, b = a.float(), b.float()
    norms = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return torch.where(norms == 0, 0.5, torch.linalg.vecdot(a, b) / norms).clamp_(0, 1)


def angle(cosines: Tensor) -> Tensor:
    """The angular distance arccos(cos) / pi, in [0, 0.5]."""
    return torch.arccos(cosines) / math.pi


@dataclass
class Statistics:
    """Sums over tokens, by half of the sequences.

    Attributes:
        influence: sum of 1 - cos(H^(l), H^(l+1)), (2, layers).
        skip: by span m, sum of the angular distance between H^(l) and H^(l+m), (2, layers - m + 1).
        skip_last: the same over the last token of each sequence.
        ffn: sum of abs(x) of the input of the FFN output map, (2, layers, channels).
        attention: the same for the attention output map.
        sequences: how many sequences each half has.
        seq_len: tokens in a sequence.
    """

    influence: Tensor
    skip: dict[int, Tensor]
    skip_last: dict[int, Tensor]
    ffn: Tensor
    attention: Tensor
    sequences: tuple[int, int]
    seq_len: int

    @property
    def layers(self) -> int:
        """How many layers were measured."""
        return self.influence.shape[1]

    def add_pair(self, lower: int, span: int, half: Tensor, below: Tensor, above: Tensor) -> None:
        """Add a batch's hidden states (sequences, tokens, hidden_size) at borders ``lower`` and ``lower + span``."""
        cosines = cosine(below, above.to(below.device))
        if span == 1:
            self.influence[:, lower] += _by_half((1 - cosines).sum(-1), half)
        if span in self.skip:
            angles = angle(cosines)
            self.skip[span][:, lower] += _by_half(angles.sum(-1), half)
            self.skip_last[span][:, lower] += _by_half(angles[:, -1], half)

    def add_channels(self, sums: Tensor, layer: int, half: Tensor, inputs: Tensor) -> None:
        """Add abs(x) of a map's inputs, (sequences, tokens, channels), to ``sums`` (``ffn`` or ``attention``)."""
        # Nine times as fast as vector_norm of order 1 over that dimension.
        sums[:, layer] += _by_half(inputs.abs().sum(1, dtype=torch.float32), half)

    def block_influence(self) -> Tensor:
        """BI, (layers,)."""
        return self._mean(self.influence)

    def skip_influence(self, span: int, sbi_tokens: str = "all") -> Tensor:
        """SBI over ``span`` layers, (layers - span + 1,)."""
        if sbi_tokens == "last":
            return self.skip_last[span].sum(0) / sum(self.sequences)
        return self._mean(self.skip[span])

    def mean_ffn(self, layer: int) -> Tensor:
        """Mean abs(x) of the FFN channels of a layer, (channels,)."""
        return self._mean(self.ffn[:, layer])

    def mean_attention(self, layer: int) -> Tensor:
        """Mean abs(x) of the attention channels of a layer, (channels,)."""
        return self._mean(self.attention[:, layer])

    def half(self, which: int) -> Statistics:
        """The statistics of one half alone; of everything, where a half has no sequence."""
        if 0 in self.sequences:
            return self
        pick = slice(which, which + 1)
        return replace(
            self,
            influence=self.influence[pick],
            skip={span: sums[pick] for span, sums in self.skip.items()},
            skip_last={span: sums[pick] for span, sums in self.skip_last.items()},
            ffn=self.ffn[pick],
            attention=self.attention[pick],
            sequences=(self.sequences[which], 0),
        )

    def after_merge(self, first: int, layers: int, spans: Sequence[int]) -> Statistics:
        """The statistics to go on with for a model that was changed from layer ``first`` on and has ``layers`` layers.

        What only layers below the change enter into stays; the rest is zero, to be measured anew.
        """

        def cut(sums: Tensor, keep: int, length: int) -> Tensor:
            fresh = torch.zeros(2, length, *sums.shape[2:], device=sums.device)
            keep = max(0, min(keep, length))
            fresh[:, :keep] = sums[:, :keep]
            return fresh

        def cut_spans(sums: dict[int, Tensor]) -> dict[int, Tensor]:
            # H^(l + span) is untouched up to l + span = first.
            return {span: cut(sums[span], first - span + 1, layers - span + 1) for span in spans if span <= layers}

        return replace(
            self,
            influence=cut(self.influence, first, layers),
            skip=cut_spans(self.skip),
            skip_last=cut_spans(self.skip_last),
            ffn=cut(self.ffn, first, layers),
            attention=cut(self.attention, first, layers),
        )

    def _mean(self, sums: Tensor) -> Tensor:
        return sums.sum(0) / (sum(self.sequences) * self.seq_len)


def empty_statistics(bundle: Bundle, tokens: Tensor, spans: Sequence[int]) -> Statistics:
    """Zero statistics for a model, calibration tokens (sequences, tokens) and the spans over which SBI is wanted."""
    layer, layers = bundle.layers[0], len(bundle.layers)
    family = bundle.family
    attention, ffn = (family.matrix(layer, path).shape[1] for path in (family.attention_output, family.ffn_output))
    sequences = len(tokens)
    return Statistics(
        influence=torch.zeros(2, layers),
        skip={span: torch.zeros(2, layers - span + 1) for span in spans},
        skip_last={span: torch.zeros(2, layers - span + 1) for span in spans},
        ffn=torch.zeros(2, layers, ffn),
        attention=torch.zeros(2, layers, attention),
        sequences=(sequences // 2, sequences - sequences // 2),
        seq_len=tokens.shape[1],
    )


def column_norms(family: Family, layer: nn.Module, path: str) -> Tensor:
    """The L1 norm sum_i abs(W_ij) of each column of the map W at ``path`` of a layer, (channels,)."""
    return family.matrix(layer, path).abs().sum(0, dtype=torch.float32).cpu()


def sensitivities(
    statistics: Statistics, family: Family, layers: Sequence[nn.Module], layer: int
) -> tuple[Tensor, Tensor]:
    """The sensitivity S_j = mean abs(x_j) * sum_i abs(W_ij) of a layer's attention and FFN channels."""
    attention, ffn = both_column_norms(family, layers[layer])
    return statistics.mean_attention(layer) * attention, statistics.mean_ffn(layer) * ffn


def both_column_norms(family: Family, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """``column_norms`` of a layer's attention output and of its FFN output."""
    return column_norms(family, layer, family.attention_output), column_norms(family, layer, family.ffn_output)


def _by_half(values: Tensor, half: Tensor) -> Tensor:
    """Sum over sequences, (sequences, ...) -> (2, ...)."""
    half = half.to(values.device)
    return torch.stack([values[half == which].sum(0) for which in (0, 1)]).cpu()
