"""The loss of hidden states that left the last layer, without ever holding all logits."""

from __future__ import annotations

import torch
from torch import Tensor

from come.measurement.layer_runner import LayerRunner

HEAD_TOKENS = 1024  # logits are the memory peak: this many tokens' at a time


def sequence_losses(runner: LayerRunner, normed: Tensor, tokens: Tensor) -> Tensor:
    """The mean negative log-likelihood of each sequence, (sequences,), float32 on the CPU.

    Args:
        runner: the model.
        normed: hidden states after the final norm, (sequences, tokens, hidden_size).
        tokens: int64 (sequences, tokens); each but the first is predicted.
    """
    states = normed[:, :-1].flatten(0, 1)
    targets = tokens[:, 1:].flatten().to(states.device)
    pieces: list[Tensor] = [
        torch.nn.functional.cross_entropy(
            runner.logits(states[start : start + HEAD_TOKENS]), targets[start : start + HEAD_TOKENS], reduction="none"
        )
        for start in range(0, len(states), HEAD_TOKENS)
    ]
    losses: Tensor = torch.cat(pieces).unflatten(0, (len(tokens), -1))
    return losses.mean(1).cpu()
