"""ReplaceMe: one linear map in the place of a block of layers (Shopkhoev et al. 2025, arXiv 2505.02819).

The block of n layers of highest cosine(H^(a), H^(a+n)) goes. Of the layer below it, M is what its FFN gives and Y all
else that it hands on, H^(a) = Y + M. A matrix T, (hidden_size, hidden_size), is estimated on the calibration tokens so
that

    Y + M T  is as near as may be to  H^(a+n),

by least squares, or by the mean cosine distance of each token's two sides, which is minimised numerically. T is folded
into the FFN's output map (weight and bias), so that a plain checkpoint with n layers fewer remains. The lowest layer
has none below it and stays. H^(L) is taken without the final norm.

Where the paper leaves it open we take: the ridge of the least squares draws T towards the identity, which is plain
removal; Adam starts there, and goes through the tokens in batches of 1,024 in an order that a seed gives.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.measurement import Measurement
from come.measurement.suffix import states_at
from come.models import FAMILIES, Bundle, Family
from come.plan.steps import Remove
from come.pruning.forecast import Forecast, Known, doubts
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.training.states import States, StateStore
from come.transforms.normal_equations import squared, watched
from come.transforms.rebuild import apply_step, with_plan
from come.transforms.ridge import empty_sums, solve

TOKENS_A_STEP = 1024


class ReplaceMeOptions(PassOptions):
    """How the linear map is estimated."""

    objective: Literal["lstsq", "cosine"] = Field(
        "cosine", description="Least squares, in closed form; or the mean cosine distance, by Adam."
    )
    ridge: float = Field(
        1e-3,
        ge=0,
        description="Of the least squares: draws the map towards plain removal, as a share of the mean diagonal.",
    )
    steps: int = Field(300, ge=1, description="Of Adam, 1,024 tokens each.")
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam.")
    seed: int = Field(0, description="The same seed gives Adam the tokens in the same order.")

    @property
    def moves_weights(self) -> bool:
        """The map is folded into the weights of a layer."""
        return True

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse models into whose weights the map cannot be folded exactly.

        Raises:
            ComeError: a norm follows the FFN.
        """
        family: Family = model.family if isinstance(model, Bundle) else FAMILIES[model.model_type]
        if family.ffn_post_norm is not None:
            raise ComeError(
                f"ReplaceMe folds a linear map into the FFN's output, and in {family.title} a norm comes after that.",
                "Choose another method, such as shortgpt with refit=true.",
            )


def lowest_block(measured: Measurement, size: int) -> int:
    """The first layer of the block of highest cosine between what enters and leaves it; never 0, the first on ties."""
    return 1 + int(measured.similarity["cosine"].diagonal(size)[1:].argmax())


def forecast(known: Known, _options: ReplaceMeOptions) -> Forecast | None:
    """The block, from the cosines of an analysis."""
    if not known.surplus:
        return Forecast()
    if known.measurement is None or "cosine" not in known.measurement.similarity:
        return None
    first = lowest_block(known.measurement, known.surplus)
    return Forecast(removed=list(range(first, first + known.surplus)), doubt=doubts("raw", known.measurement))


def work(known: Known, options: ReplaceMeOptions, tokens: Calibration) -> Schedule:
    """The measuring pass, all up to the end of the block (in the middle, where nothing is known), and the map."""
    square = known.model.hidden_size**2
    if options.objective == "lstsq":
        products = 4 * tokens.n_tokens * square + 6 * known.model.hidden_size * square
    else:
        products = 6 * options.steps * min(TOKENS_A_STEP, tokens.n_tokens) * square
    return Schedule(
        [float(known.layers)],
        unmeasured=(known.layers + known.surplus) / 2,
        products=products,
        similarity=("cosine",),
    )


@register(
    "replaceme",
    title="ReplaceMe",
    paper="Shopkhoev et al. 2025, arXiv 2505.02819",
    summary="Replace the block of layers that changes its input least by one linear map, folded into the layer below.",
    kind="remove",
    options=ReplaceMeOptions,
    needs=("forward",),
    cost="One pass over the calibration tokens, one up to the end of the block, and a linear map of the hidden states.",
    forecast=forecast,
    work=work,
    portfolio={},
)
def replaceme(task: Task, options: ReplaceMeOptions) -> Result:
    """Remove the block of ``lowest_block`` and fold the map that stands for it into the layer below."""
    count = len(task.original.layers) - task.target_layers
    if not count or len(task.plan.steps) == 2:
        return Result(task.current, task.plan)
    began, plan = time.perf_counter(), task.plan
    if not plan.steps:
        looking = replace(task, on_progress=_first_part(task.on_progress))
        measured = looking.measure(last_state="raw", similarity=("cosine",), batch_size=options.batch_size)
        first = lowest_block(measured, count)
        plan = plan.with_step(Remove(layers=list(range(first, first + count))))
        task.done(plan)
    removed = plan.steps[0]
    assert isinstance(removed, Remove)
    bundle = apply_step(task.original, removed)
    linear, note = estimate(task, options, removed.layers)
    tensors = folded(bundle, removed.layers[0] - 1, linear)
    plan = plan.with_tensors(tensors, "replaceme").with_note(note)
    bundle = apply_step(bundle, plan.steps[-1], tensors)
    task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, note, layers=len(bundle.layers))
    each = (time.perf_counter() - began) / count
    history = [StepRecord((layer, layer), seconds=each) for layer in removed.layers]
    return Result(with_plan(bundle, plan), plan, history, whole=True)


def estimate(task: Task, options: ReplaceMeOptions, block: list[int]) -> tuple[Tensor, str]:
    """The map T of a block, (hidden_size, hidden_size), float64, and what it comes to on the calibration tokens."""
    if options.objective == "lstsq":
        return least_squares(task, options, block)
    with StateStore(task.tokens, task.original.shape.hidden_size, torch.float32, 3) as store:
        kept = store.new(), store.new(), store.new()
        done = 0
        for parts in states_around(task, options, block):
            size = len(parts[0])
            for states, part in zip(kept, parts, strict=True):
                states.tensor[done : done + size] = part.cpu()
            done += size
        return cosine_map(task, options, *kept)


@torch.no_grad()
def states_around(task: Task, options: ReplaceMeOptions, block: list[int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """By batch, M, Y and H^(a+n), (sequences, tokens, hidden_size) each, float32, on the original model."""
    runner, below = LayerRunner(task.original), block[0] - 1
    multiplier = runner.family.multiplier(runner.layers[below])
    todo = list(batches(task.tokens, options.batch_size))
    for batch in todo:
        entering = states_at(runner, batch.index, batch.tokens, below, None)
        _, given, leaving = watched(runner, below, runner.family.ffn_output, entering)
        given = (multiplier * given).view(entering.shape)
        leaving = leaving.view(entering.shape)
        states = leaving.to(entering.dtype)
        for layer in block:
            states = runner.run(layer, states)
        emit(task.on_progress, "compress", 600 + 100 * (batch.index + 1) // len(todo), 1000, "Running the block")
        yield given, leaving.to(given.device) - given, states.to(given.device).float()


@torch.no_grad()
def least_squares(task: Task, options: ReplaceMeOptions, block: list[int]) -> tuple[Tensor, str]:
    """T by ridge regression of what plain removal lacks on M: identity and correction.

    Raises:
        ComeError: the tokens do not determine it, and there is no ridge.
    """
    hidden = task.original.shape.hidden_size
    sums, lacking, whole = empty_sums(hidden, hidden), 0.0, 0.0
    for given, rest, wanted in states_around(task, options, block):
        given, rest, wanted = (each.flatten(0, 1).cpu() for each in (given, rest, wanted))
        ones = torch.ones(len(given))
        sums.add(given, wanted - given - rest, ones)
        more = squared(wanted, given + rest, ones)
        lacking, whole = lacking + more[0], whole + more[1]
    change = solve(sums, options.ridge)
    if change is None or (not options.ridge and task.tokens.numel() < hidden):
        raise ComeError(
            f"{task.tokens.numel():,} calibration tokens do not determine a linear map of {hidden:,} channels.",
            "Give more tokens, or a ridge above 0.",
        )
    after = max(0.0, lacking - sums.gain(change))
    note = (
        f"squared error of what leaves the block {lacking / whole:.4f} of its square, {after / whole:.4f} with the map"
    )
    return torch.eye(hidden, dtype=torch.float64) + change, f"ReplaceMe, least squares: {note}."


def cosine_map(
    task: Task, options: ReplaceMeOptions, given: States, rest: States, wanted: States
) -> tuple[Tensor, str]:
    """T by Adam on the mean cosine distance between Y + M T and H^(a+n), float32, from the identity on."""
    hidden = task.original.shape.hidden_size
    device = next(task.original.layers[0].parameters()).device
    linear = torch.eye(hidden, device=device, requires_grad=True)
    flat = [each.tensor.view(-1, hidden) for each in (given, rest, wanted)]

    def distance(rows: Tensor) -> Tensor:
        m, y, target = (each[rows].to(device) for each in flat)
        return 1 - torch.nn.functional.cosine_similarity(y + m @ linear, target, dim=-1).mean()

    def over_all() -> float:
        parts = torch.arange(len(flat[0])).split(TOKENS_A_STEP)
        return sum(float(distance(rows)) * len(rows) for rows in parts) / len(flat[0])

    adam = torch.optim.Adam([linear], lr=options.learning_rate)
    with torch.no_grad():
        before = over_all()
    for step, rows in enumerate(token_batches(len(flat[0]), options.steps, options.seed), start=1):
        with torch.enable_grad():
            loss = distance(rows)
            adam.zero_grad()
            loss.backward()
        adam.step()
        share = 700 + 300 * step // options.steps
        emit(task.on_progress, "compress", share, 1000, f"Step {step} of {options.steps}: {float(loss.detach()):.4f}")
    with torch.no_grad():
        note = f"mean cosine distance of what leaves the block {before:.4f}, {over_all():.4f} with the map"
    return linear.detach().double().cpu(), f"ReplaceMe, cosine distance: {note}."


def token_batches(tokens: int, steps: int, seed: int) -> Iterator[Tensor]:
    """For each step the tokens that it looks at, int64: all of them in an order by chance, and again in another."""
    generator = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []
    for _ in range(steps):
        if not order:
            order = list(torch.randperm(tokens, generator=generator).split(TOKENS_A_STEP))
        yield order.pop(0)


@torch.no_grad()
def folded(bundle: Bundle, layer: int, linear: Tensor) -> dict[str, Tensor]:
    """The FFN output map of a layer with a linear map after it, by parameter name, in the model's dtype."""
    family, path = bundle.family, bundle.family.ffn_output
    module = bundle.layers[layer].get_submodule(path)
    tensors = {}
    for name, old in module.named_parameters(recurse=False):
        value = old.detach().double().cpu()
        value = linear.T @ value if value.ndim == 2 and not family.transposed else value @ linear
        tensors[f"{family.layers}.{layer}.{path}.{name}"] = value.to(old.device, old.dtype).contiguous()
    return tensors


def _first_part(on_progress: OnProgress) -> OnProgress:
    """Progress of the measuring pass as that of the first 600 thousandths."""
    if on_progress is None:
        return None
    return lambda event: emit(on_progress, event.stage, 600 * event.step // event.of, 1000, event.message)
