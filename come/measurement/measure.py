"""Measuring a model: sensitivity of its channels, block influence of its layers, similarity of its hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress
from come.measurement.calibrate import calibrate
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.measurement import Measurement
from come.measurement.similarity import Similarities
from come.measurement.statistics import Statistics, both_column_norms, empty_statistics
from come.models import Bundle
from come.text import begins_with

__all__ = ["Measurement", "check_rules", "measure"]


def measure(
    bundle: Bundle,
    tokens: Tensor,
    *,
    span: int = 2,
    sbi_tokens: str = "all",
    last_state: str = "normed",
    similarity: Sequence[str] = ("cosine",),
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> Measurement:
    """Measure a model on calibration tokens, in one pass (CoMe, arXiv 2510.15304, section 3).

    Args:
        bundle: the model; it is left as it was.
        tokens: int64 (sequences, tokens).
        span: over how many layers the skip block influence reaches.
        sbi_tokens: "all" tokens, or the "last" of each sequence (the published reference).
        last_state: the last hidden state "normed", as Transformers reports it, or "raw".
        similarity: which matrices to make: "cosine", "angular", "cka".
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer.

    Raises:
        ComeError: a rule is unknown, the span does not fit the model, or its values are not finite.
    """
    layers = len(bundle.layers)
    check_rules(span, layers, sbi_tokens, last_state)
    runner = LayerRunner(bundle)
    statistics = empty_statistics(bundle, tokens, [span])
    similarities = Similarities(similarity, layers, tokens.numel())
    calibrate(
        runner,
        tokens,
        statistics,
        batch_size=batch_size,
        last_state=last_state,
        on_border=similarities.add if similarity else None,
        on_progress=on_progress,
    )
    with torch.inference_mode():
        norms = [both_column_norms(bundle.family, layer) for layer in bundle.layers]
        whole = _arrays(bundle, statistics, norms, span, sbi_tokens)
        halves = [_arrays(bundle, statistics.half(which), norms, span, sbi_tokens) for which in (0, 1)]
        matrices = similarities.matrices()
    for values in (*whole.values(), *matrices.values()):
        check_finite(values, runner)
    names = ("block_influence", "skip_influence", "mlp_sensitivity", "kv_group_sensitivity")
    return Measurement(
        **whole,
        **{f"{name}_halves": torch.stack([half[name] for half in halves]) for name in names},
        similarity=matrices,
        span=span,
        sbi_tokens=sbi_tokens,
        last_state=last_state,
        n_tokens=tokens.numel(),
        seq_len=tokens.shape[1],
        cka_tokens=similarities.cka_tokens,
        bos=begins_with(tokens, bundle.tokenizer),
    )


def check_rules(span: int, layers: int, sbi_tokens: str, last_state: str) -> None:
    """Refuse what cannot be measured.

    Raises:
        ComeError: see ``measure``.
    """
    if not 2 <= span <= layers:
        raise ComeError(
            f"A span of {span} does not fit a model of {layers} layers.", f"Give a span from 2 to {layers}."
        )
    if sbi_tokens not in ("all", "last"):
        raise ComeError(f"SBI cannot be taken over {sbi_tokens!r} tokens.", "Choose 'all' or 'last'.")
    if last_state not in ("normed", "raw"):
        raise ComeError(f"There is no last state {last_state!r}.", "Choose 'normed' or 'raw'.")


def _arrays(
    bundle: Bundle, statistics: Statistics, norms: list[tuple[Tensor, Tensor]], span: int, sbi_tokens: str
) -> dict[str, Tensor]:
    """Block influences and sensitivities of summed statistics, as the fields of a Measurement."""
    attention = torch.stack([statistics.mean_attention(layer) * norm for layer, (norm, _) in enumerate(norms)])
    ffn = torch.stack([statistics.mean_ffn(layer) * norm for layer, (_, norm) in enumerate(norms)])
    shape = bundle.shape
    return {
        "block_influence": statistics.block_influence(),
        "skip_influence": statistics.skip_influence(span, sbi_tokens),
        "mlp_sensitivity": ffn,
        "attention_sensitivity": attention,
        "head_sensitivity": attention.unflatten(1, (shape.heads, -1)).mean(2),
        "kv_group_sensitivity": attention.unflatten(1, (shape.kv_heads, -1)).mean(2),
    }
