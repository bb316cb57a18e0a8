"""LESA: layers between two others, predicted by a small network from both.

Yang et al. 2025, "LESA: Learnable LLM Layer Scaling-Up", ACL 2025, arXiv 2502.13794. Of each linear map the layers'
matrices are put side by side and decomposed, [W_0 … W_(L−1)] = U S [V_0 … V_(L−1)]. A network learns V_i from V_(i−1)
and V_(i+1), row by row, on the layers that there are, and predicts what lies between two adjacent ones. Sizes, rates
and the loss are those of their published program, and so is the choice of places: the topmost.

Their program leaves whatever is no such matrix as the first layer has it; here norms and biases are the mean of both
neighbours'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.linalg import vector_norm

from come.errors import ComeError
from come.events import emit
from come.growing.growth import Fit, GrownLayer, GrowTask, copied, with_new
from come.growing.registry import register
from come.models.depth import attention_kind
from come.options import Options
from come.transforms.compatible import mixable


class LesaOptions(Options):
    """How the network learns."""

    epochs: int = Field(10, ge=1, le=1000, description="How often it sees each row of each layer.")
    hidden: int = Field(256, ge=1, le=65536, description="How many channels its two hidden layers have.")
    lr: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    batch: int = Field(64, ge=1, description="Rows in a step.")
    norm_weight: float = Field(
        5e-4,
        ge=0,
        le=1,
        description="The share of the squared difference of norms in the loss; the rest is the mean squared error.",
    )


@register(
    "lesa",
    title="LESA",
    paper="https://arxiv.org/abs/2502.13794",
    summary="Between two layers comes one that a network predicts from both, in the singular coordinates of all.",
    options=LesaOptions,
    most=lambda layers: 2 * layers - 1,
    below_last=True,
)
def lesa(task: GrowTask, options: LesaOptions) -> list[GrownLayer]:
    """The grown model's layers.

    Raises:
        ComeError: the model has fewer than three layers, a new one would lie between two that attend in different
            ways, or the network did not learn anything finite.
    """
    layers, family = list(task.bundle.layers), task.bundle.family
    after = task.after or tuple(range(len(layers) - 1 - task.more, len(layers) - 1))
    _check(task, after)
    new = {number: _between(layers[number], layers[number + 1]) for number in after}
    paths = (*family.attention_paths, *family.ffn_paths)
    for done, path in enumerate(paths):  # one kind of map at a time, so that memory holds one decomposition
        emit(task.on_progress, "grow", done, len(paths), f"Learning {path} of the layers between")
        matrices = [family.matrix(layer, path).detach().float() for layer in layers]
        basis, rows = decomposed(matrices)
        network = trained(rows, options, task.seed)
        task.fits[path] = _fit(network, rows)
        for number, layer in new.items():
            matrix = basis @ _predicted(network, rows[:, number], rows[:, number + 1])
            if not bool(matrix.isfinite().all()):
                raise ComeError(
                    f"What was predicted of {path} is not finite.", "Give a smaller lr, or load the model in float32."
                )
            with torch.no_grad():
                family.matrix(layer, path).copy_(matrix)
    emit(task.on_progress, "grow", len(paths), len(paths), "All layers between are there")
    return with_new(task, after, new.__getitem__)


def decomposed(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """U S, (out, rank), and V of each layer, (rank, layers, in), of matrices (out, in) put side by side; float32."""
    left, singular, right = torch.linalg.svd(torch.cat(list(matrices), dim=1), full_matrices=False)
    return left * singular, right.contiguous().view(len(singular), len(matrices), -1)


def trained(rows: Tensor, options: LesaOptions, seed: int) -> nn.Module:
    """A network that gives a layer's rows from those of its two neighbours side by side.

    Args:
        rows: V of each layer, (rank, layers, in).
        options: how it learns.
        seed: draws its weights and the order of rows.
    """
    rank, layers, width = rows.shape
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(2 * width, options.hidden),
            nn.ReLU(),
            nn.Linear(options.hidden, options.hidden),
            nn.ReLU(),
            nn.Linear(options.hidden, width),
        ).to(rows.device)
        orders = [torch.randperm(rank * (layers - 2)) for _ in range(options.epochs)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.lr)
    for order in orders:
        for batch in order.split(options.batch):
            row, layer = batch % rank, batch // rank + 1
            wanted = rows[row, layer]
            found = network(torch.cat([rows[row, layer - 1], rows[row, layer + 1]], dim=1))
            norms = (vector_norm(found) - vector_norm(wanted)) ** 2
            error = nn.functional.mse_loss(found, wanted)
            optimizer.zero_grad()
            ((1 - options.norm_weight) * error + options.norm_weight * norms).backward()
            optimizer.step()
    return network


@torch.no_grad()
def _predicted(network: nn.Module, below: Tensor, above: Tensor) -> Tensor:
    found: Tensor = network(torch.cat([below, above], dim=1))
    return found


def _fit(network: nn.Module, rows: Tensor) -> Fit:
    """How well the layers that there are come out, one at a time."""

    def error(of: Callable[[Tensor, Tensor], Tensor]) -> float:
        middle = range(1, rows.shape[1] - 1)
        missed = sum(
            float((of(rows[:, each - 1], rows[:, each + 1]) - rows[:, each]).square().sum()) for each in middle
        )
        return float((missed / float(rows[:, 1:-1].square().sum())) ** 0.5)

    return Fit(error(lambda below, above: _predicted(network, below, above)), error(lambda b, a: (b + a) / 2))


def _between(below: nn.Module, above: nn.Module) -> nn.Module:
    """A layer whose parameters are the mean of both, in float32 and then back in their dtype."""
    new = copied(below)
    with torch.no_grad():
        for mine, other in zip(new.parameters(), above.parameters(), strict=True):
            mine.copy_((mine.float() + other.float().to(mine.device)) / 2)
    return new


def _check(task: GrowTask, after: Sequence[int]) -> None:
    config, layers = task.bundle.model.config, len(task.bundle.layers)
    if layers < 3:
        raise ComeError(f"LESA learns from three layers in a row; the model has {layers}.", "Choose duplicate.")
    for number in after:
        kinds = {attention_kind(config, number), attention_kind(config, number + 1)}
        if len(kinds) > 1 or mixable(task.bundle, number, number + 1) is not None:
            raise ComeError(
                f"Layers {number} and {number + 1} attend in different ways: no layer between them is predicted.",
                "Name other places, or choose duplicate or solar.",
            )
