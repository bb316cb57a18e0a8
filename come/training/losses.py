"""How far hidden states are from those that they should be: losses of one layer, each a mean over tokens, float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

TINY = 1e-12


def kl(made: Tensor, wanted: Tensor) -> Tensor:
    """KL(softmax(wanted) || softmax(made)) over the hidden dimension (CoMe, arXiv 2510.15304, step 3)."""
    log_made, log_wanted = (functional.log_softmax(each.float(), dim=-1) for each in (made, wanted))
    return (log_wanted.exp() * (log_wanted - log_made)).sum(-1).mean()


def mse(made: Tensor, wanted: Tensor) -> Tensor:
    """The squared distance as a share of the wanted state's squared length."""
    made, wanted = made.float(), wanted.float()
    return ((made - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(TINY)).mean()


def cosine(made: Tensor, wanted: Tensor) -> Tensor:
    """1 - the cosine between the two."""
    return 1 - functional.cosine_similarity(made.float(), wanted.float(), dim=-1).mean()


def plain_mse(made: Tensor, wanted: Tensor) -> Tensor:
    """The mean squared difference of all entries."""
    return (made.float() - wanted.float()).square().mean()


Loss = Literal["kl", "mse", "cosine", "plain-mse"]
LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": kl,
    "mse": mse,
    "cosine": cosine,
    "plain-mse": plain_mse,
}
