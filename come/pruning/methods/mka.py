"""MKA: merge the last two layers by weights, again and again (Liu et al., EMNLP 2024, arXiv 2406.16330).

How alike two layers are is measured on embeddings of their activations. With x_i, i = 1, ..., n, the states that leave
layer l for n tokens of the calibration text, chosen by a seed:

    D_ij = ||x_i - x_j||,  K_ij = exp(-sqrt(D_ij / sigma))                  the kernel
    p_i = sum_j K_ij,      K'_ij = K_ij / sqrt(p_i p_j)                     density taken out by half
    v_i = sqrt(sum_j K'_ij),  A_ij = K'_ij / (v_i v_j)                      the normalised diffusion operator
    A = U diag(lambda) U^T, lambda descending;  Psi_l = (u_1, ..., u_d) / u_0    the embedding, (n, d)

Each coordinate of Psi_l is cut into b bins of equally many tokens, so that a token falls into one of b^d cells, and
with the entropies H of the cells of one layer, and of both layers together,

    I(Psi_l; Psi_m) = H(Psi_l) + H(Psi_m) - H(Psi_l, Psi_m)
    S_lm = I(Psi_l; Psi_m) / sqrt(H(Psi_l) H(Psi_m)),  in [0, 1]            the NPIB

The two topmost layers l and m = l + 1 become one with the parameters S_lm theta_l + (1 - S_lm) theta_m; it counts as
layer l, and is merged with layer l - 1 next.

Where the paper leaves it open we take: the published program's exponents (1/2 and 1/2), d = 2, ranks instead of
values, and similarities measured once, on the original model, whose layer l speaks for the layer merged into it;
sigma is the median of the D_ij (the program: 8, for one size of models); the lower layer gets the weight S_lm; and
entropies are those of binned ranks, b = max(2, floor((n / 5)^(1 / 2d))), about five tokens a joint cell: the program's
nearest-neighbour entropies of values can be negative, and then the NPIB is not defined. The program weighs by another
formula than the paper, and that is not done here.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from come.errors import ComeError
from come.events import emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import each_border
from come.plan.steps import Average
from come.pruning.common import averageable, check_averages_reach, take_averages
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result

TOKENS_A_CELL = 5


class MKAOptions(PassOptions):
    """How similarity is measured."""

    sample: int = Field(
        1024,
        ge=3,
        description="How many tokens the similarity of layers is taken on; work and memory grow with the square.",
    )
    dimensions: int = Field(2, ge=1, description="Of the embedding.")
    sigma: float | Literal["median"] = Field(
        "median", description="The width of the kernel; median for the median distance of the tokens' states."
    )
    seed: int = Field(0, description="The same seed gives the same choice of tokens.")

    @model_validator(mode="after")
    def _embeddable(self) -> MKAOptions:
        if self.sample < self.dimensions + 2:
            raise ComeError(
                f"{self.sample} tokens cannot be embedded in {self.dimensions} dimensions.",
                "Give at least 1 dimension, and some hundred tokens.",
            )
        if self.sigma != "median" and not self.sigma > 0:
            raise ComeError(f"A kernel cannot be {self.sigma} wide.", "Give a number above 0, or 'median'.")
        return self


@register(
    "mka",
    title="MKA",
    paper="Liu et al. 2024, arXiv 2406.16330",
    summary="Merge the last two layers by a weighted sum, again and again; the weights say how alike the layers are.",
    kind="average",
    options=MKAOptions,
    needs=("forward",),
    stepwise=True,
    cost="One pass over the calibration tokens, and the eigenvectors of a (tokens x tokens) matrix a layer.",
)
def mka(task: Task, options: MKAOptions) -> Result:
    """Merge the two topmost layers until the target; pairs of different kinds are left apart."""
    layers, target = len(task.original.layers), task.target_layers
    if len(task.current.layers) == target:
        return Result(task.current, task.plan)
    check_averages_reach(task.original, target, layers - 1)
    began = time.perf_counter()
    pairs = [(low, low + 1) for low in range(layers - 2, -1, -1) if averageable(task.original, low, low + 1)]
    pairs = pairs[: layers - target]
    wanted = sorted({layer for pair in pairs for layer in pair})
    cells = {layer: cells_of(states, options) for layer, states in sampled_states(task, options, wanted).items()}
    similarities = [npib(cells[low], cells[high]) for low, high in pairs]
    steps = [Average(window=pair, weights=[s, 1 - s]) for pair, s in zip(pairs, similarities, strict=True)]
    return take_averages(task, steps, time.perf_counter() - began)


@torch.inference_mode()
def sampled_states(task: Task, options: MKAOptions, wanted: list[int]) -> dict[int, Tensor]:
    """By layer, the states that leave it for the chosen tokens, (n, hidden_size), float32 on the CPU."""
    runner = LayerRunner(task.original)
    count = task.tokens.numel()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(options.seed))
    chosen = order[: options.sample].sort().values
    found: dict[int, list[Tensor]] = {layer: [] for layer in wanted}
    before = 0
    todo = list(batches(task.tokens, options.batch_size))
    for batch in todo:
        here = chosen[(chosen >= before) & (chosen < before + batch.tokens.numel())] - before
        before += batch.tokens.numel()
        for border, hidden_states in each_border(runner, batch):
            if border - 1 in found:
                states = runner.norm(hidden_states) if border == len(runner) else hidden_states
                found[border - 1].append(states.flatten(0, 1)[here.to(states.device)].float().cpu())
            done = batch.index * len(runner) + border
            emit(task.on_progress, "compress", 700 * done // (len(todo) * len(runner)), 1000, "Reading activations")
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def cells_of(states: Tensor, options: MKAOptions) -> Tensor:
    """The cell that each token falls into, int64 (n,), from the states that leave a layer, (n, hidden_size)."""
    embedding = diffusion_embedding(states, options.dimensions, options.sigma)
    tokens, dimensions = embedding.shape
    bins = max(2, int((tokens / TOKENS_A_CELL) ** (1 / (2 * dimensions)) + 1e-9))
    ranks = embedding.argsort(stable=True, dim=0).argsort(stable=True, dim=0)
    places = bins ** torch.arange(dimensions)
    return (ranks * bins // tokens * places).sum(1)


def diffusion_embedding(states: Tensor, dimensions: int, sigma: float | Literal["median"]) -> Tensor:
    """The coordinates Psi of some states, (n, hidden_size) -> (n, dimensions), float32."""
    distances = torch.cdist(states, states, compute_mode="donot_use_mm_for_euclid_dist")
    width = distances.median() if sigma == "median" else torch.tensor(float(sigma))
    kernel = torch.exp(-torch.sqrt(distances / width.clamp_min(torch.finfo(torch.float32).tiny)))
    density = kernel.sum(0).sqrt()
    kernel = kernel / (density[:, None] * density)
    degree = kernel.sum(0).sqrt()
    vectors: Tensor = torch.linalg.eigh(kernel / (degree[:, None] * degree)).eigenvectors  # eigenvalues ascend
    return vectors[:, -1 - dimensions : -1].flip(1) / vectors[:, -1:]


def npib(a: Tensor, b: Tensor) -> float:
    """The normalised pairwise information bottleneck of two layers' cells, int64 (n,) each."""
    joint = a * (int(b.max()) + 1) + b
    alone, other, both = entropy(a), entropy(b), entropy(joint)
    scale = (alone * other).sqrt()
    return float(((alone + other - both) / scale).clamp(0, 1)) if scale > 0 else 0.0


def entropy(cells: Tensor) -> Tensor:
    """The entropy of cells by how often each occurs, in nats."""
    shares: Tensor = cells.unique(return_counts=True)[1] / len(cells)
    return -(shares * shares.log()).sum()
