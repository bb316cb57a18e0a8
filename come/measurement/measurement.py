"""The result of a measuring pass, as arrays that can be kept in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors.torch import save_file
from torch import Tensor

from come import reading
from come.errors import ComeError
from come.files import written_whole


@dataclass(frozen=True)
class Measurement:
    """Everything of one measuring pass; tensors are float32 on the CPU.

    Attributes:
        block_influence: BI, (layers,).
        skip_influence: SBI of the window of ``span`` layers that starts at each, (layers - span + 1,).
        mlp_sensitivity: of each FFN channel, (layers, channels).
        attention_sensitivity: of each attention channel, (layers, heads * head_dim).
        head_sensitivity: the mean over a head's channels, (layers, heads).
        kv_group_sensitivity: the mean over a KV group's channels, (layers, kv_heads).
        block_influence_halves, skip_influence_halves, mlp_sensitivity_halves, kv_group_sensitivity_halves:
            the same from the first and the second half of the sequences alone, (2, ...).
        similarity: by kind, between hidden states at borders, (layers + 1, layers + 1).
        span, sbi_tokens, last_state: how it was measured.
        n_tokens, seq_len: on how much text.
        cka_tokens: on how many of the tokens CKA was taken; 0 without it.
        bos: what each sequence began with, as written; None for text alone.
    """

    block_influence: Tensor
    skip_influence: Tensor
    mlp_sensitivity: Tensor
    attention_sensitivity: Tensor
    head_sensitivity: Tensor
    kv_group_sensitivity: Tensor
    block_influence_halves: Tensor
    skip_influence_halves: Tensor
    mlp_sensitivity_halves: Tensor
    kv_group_sensitivity_halves: Tensor
    similarity: dict[str, Tensor]
    span: int
    sbi_tokens: str
    last_state: str
    n_tokens: int
    seq_len: int
    cka_tokens: int
    bos: str | None = None

    @property
    def layers(self) -> int:
        """How many layers were measured."""
        return len(self.block_influence)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file; it appears whole or not at all."""
        tensors, facts = {}, {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                tensors[field.name] = value.contiguous()
            elif field.name != "similarity":
                facts[field.name] = value
        tensors |= {f"similarity.{kind}": matrix.contiguous() for kind, matrix in self.similarity.items()}
        with written_whole(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={"measurement": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Measurement:
        """Read what ``save`` wrote.

        Raises:
            ComeError: the file is not there, or is no measurement.
        """
        path = Path(path)
        try:
            tensors, told = reading.tensors_of(path)
            facts = reading.validated(reading.values_in(told["measurement"].encode(), str(path)), _FACTS, str(path))
            similarity = {
                name.partition(".")[2]: tensors.pop(name) for name in list(tensors) if name.startswith("similarity.")
            }
            parts: dict[str, Any] = {**tensors, **facts.model_dump()}
            found = cls(**parts, similarity=similarity)
            found._check_shapes()
            reading.require_finite(path, tensors | similarity)
        except ComeError as error:
            raise ComeError(f"{path} holds no measurement: {error.what}", "Run the analysis again.") from error
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            raise ComeError(f"{path} holds no measurement.", "Run the analysis again.") from error
        return found

    def _check_shapes(self) -> None:
        """See that its tensors belong together.

        Raises:
            ValueError: they do not.
        """
        layers, windows = self.block_influence.numel(), self.skip_influence.numel()
        halves, borders = self.mlp_sensitivity_halves, layers + 1
        rows = (self.mlp_sensitivity, self.attention_sensitivity, self.head_sensitivity, self.kv_group_sensitivity)
        shapes = [
            (self.block_influence, (layers,)),
            (self.skip_influence, (layers - self.span + 1,)),
            (self.block_influence_halves, (2, layers)),
            (self.skip_influence_halves, (2, windows)),
            (halves, (2, *self.mlp_sensitivity.shape)),
            (self.kv_group_sensitivity_halves, (2, *self.kv_group_sensitivity.shape)),
            *((matrix, (borders, borders)) for matrix in self.similarity.values()),
        ]
        wrong = any(tensor.shape != shape or tensor.dtype != torch.float32 for tensor, shape in shapes)
        if wrong or any(row.dim() != 2 or len(row) != layers or row.dtype != torch.float32 for row in rows):
            raise ValueError("its tensors do not belong together")

    def window_stability(self) -> dict[str, Any]:
        """How far the choice of a window depends on which half of the text was read.

        Returns:
            best: the window of lowest SBI, (first, last); best_halves: the same for each half; rank_correlation:
            Spearman's, between the halves' SBI over all windows.
        """

        def best(values: Tensor) -> tuple[int, int]:
            first = int(values.argmin())
            return first, first + self.span - 1

        return {
            "best": best(self.skip_influence),
            "best_halves": [best(half) for half in self.skip_influence_halves],
            "rank_correlation": _spearman(*self.skip_influence_halves),
        }

    def channel_stability(self, share: float = 0.5) -> Tensor:
        """For each layer, the Jaccard overlap of the FFN channels kept by either half of the text, (layers,).

        Args:
            share: which share of a layer's channels is kept.
        """
        keep = max(1, round(self.mlp_sensitivity.shape[1] * share))
        kept = torch.zeros_like(self.mlp_sensitivity_halves, dtype=torch.bool)
        kept.scatter_(2, self.mlp_sensitivity_halves.topk(keep, dim=2).indices, True)
        return (kept[0] & kept[1]).sum(1) / (kept[0] | kept[1]).sum(1)


class _Facts(BaseModel):
    """What the header of a measurement's file tells beside the tensors."""

    model_config = ConfigDict(extra="forbid")

    span: int = Field(ge=2, lt=100_000)
    sbi_tokens: str
    last_state: str
    n_tokens: int = Field(ge=0, lt=2**53)
    seq_len: int = Field(ge=0, lt=2**53)
    cka_tokens: int = Field(ge=0, lt=2**53)
    bos: str | None = None


_FACTS = TypeAdapter(_Facts)


def _spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; 1 where there is nothing to rank."""
    from scipy.stats import spearmanr

    if min(len(a.unique()), len(b.unique())) < 2:
        return 1.0
    return float(spearmanr(a.numpy(), b.numpy()).statistic)
