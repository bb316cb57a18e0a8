"""How much memory a run takes at its peak, part by part, on the device and in main memory."""

from __future__ import annotations

from dataclasses import dataclass

from come.estimation.device import Device
from come.measurement.hidden_state_cache import check_budget, stride_in
from come.models import Facts
from come.models.facts import BYTES

PROCESS = 500_000_000  # Python with its libraries
CONTEXT = 500_000_000  # of CUDA
HEAD_TOKENS = 1024  # logits are made for that many tokens at a time
CKA_TOKENS = 2048
PROBE_COPIES = 3  # of the states that a probe learns from: those learned from and judged on are parts of them
USABLE = 0.9  # the share of a GPU that accelerate fills with weights
# How many float64 arrays, (channels x channels) and (channels x hidden size), a refit holds at its peak: two sums and
# the equations that it solves, some of them in float32. Fitted to measured peaks.
REFIT_SQUARES, REFIT_SIDES = 4.5, 3
JOINT_BYTES = 27  # an entry of the sums over all inputs that units are eliminated from; fitted to measured peaks
TUNING_SQUARES = 6  # float32 arrays, (channels x channels), while a mask is tuned


@dataclass(frozen=True)
class Request:
    """What the memory of a run depends on.

    Attributes:
        batch_tokens: tokens that go through a layer at once.
        layers: how many layers are left.
        merges: how many merged layers there are in the end, beside the original ones.
        masked: how many layers have output maps of their own in the end, with units silenced, beside the original ones.
        refit: whether merged layers are refitted; ``tuned``: whether the masks of layers are tuned.
        eliminated: from how many inputs of a map units are eliminated together.
        keeps_borders: whether hidden states at layer borders are kept for a next pass.
        budget: bytes for them; None for a quarter of what is free.
        span: how many layers a window has.
        scoring_tokens: on how many tokens the original's predictions are kept, to score others by their divergence.
        gradients: whether gradients go back through the layers.
        logits: whether logits are ever made; ``logits_while_measuring``: while the borders are kept.
        similarity: the matrices of an analysis.
        spread: whether layers that do not fit the device may lie in main memory (``device="balanced"``).
        probed_choices: of how many choices all layers' states are kept, to probe them.
        saved: the dtype that the model is saved in; None where it is not.
    """

    dtype: str
    n_tokens: int
    batch_tokens: int
    layers: int
    merges: int = 0
    masked: int = 0
    refit: bool = False
    tuned: bool = False
    eliminated: int = 0
    keeps_borders: bool = False
    budget: int | None = None
    span: int = 2
    scoring_tokens: int = 0
    gradients: bool = False
    logits: bool = False
    logits_while_measuring: bool = False
    similarity: tuple[str, ...] = ()
    spread: bool = False
    probed_choices: int = 0
    saved: str | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak.

    Attributes:
        by_part: what takes them.
        device: on the device; on a CPU, all of it.
        host: in main memory.
        offloaded: the share of the weights that does not fit the device and lies in main memory.
        stride: hidden states are kept at every so many borders between layers.
    """

    by_part: dict[str, int]
    device: int
    host: int
    offloaded: float
    stride: int


def memory_of(facts: Facts, device: Device, request: Request) -> Memory:
    """The memory that a run takes at its peak."""
    size = BYTES[request.dtype]
    weights = facts.bytes_at(facts.layers, request.dtype)
    merged = request.merges * facts.layer_parameters * size + _masked(facts, request, size)
    on_gpu = device.kind == "cuda"
    offloaded = 0.0
    if request.spread and on_gpu and weights + merged > (room := int(USABLE * device.memory * device.count)):
        offloaded = 1 - room / (weights + merged)

    stride, borders = facts.layers + 1, 0
    if request.keeps_borders:
        taken = offloaded * (weights + merged) if on_gpu else weights
        one = facts.hidden_size * request.n_tokens * size
        check_budget(request.budget or 0, one)
        budget = request.budget if request.budget is not None else max(0, int(device.main_memory - taken)) // 4
        stride = stride_in(budget, facts.layers, one)
        borders = (facts.layers - 1) // stride * one

    activations = _activations(facts, request, size)
    logits = HEAD_TOKENS * facts.vocab_size * (8 + (0 if size == 4 else size))
    similarity = _similarity(facts, request, size)
    predictions = 4 * facts.vocab_size * request.scoring_tokens
    if predictions >= device.main_memory // 8:
        predictions = 0  # they are made again for each candidate
    gradients = _gradients(facts, request, size)
    copy = 0
    if request.saved is not None and request.saved != request.dtype:
        copy = facts.bytes_at(request.layers, request.saved)
    sums, solving = _equations(facts, request)
    fitting = max(activations + sums, solving)
    working = activations + max(similarity, gradients) + (logits if request.logits_while_measuring else 0)
    measuring = borders + predictions + max(working, fitting)
    probing = PROBE_COPIES * 4 * request.probed_choices * (facts.layers + 1) * facts.hidden_size
    in_main = 0 if on_gpu else probing
    evaluating = activations + max(logits if request.logits else 0, in_main)
    parts = {"weights": weights, "merged layers": merged, "hidden states": borders, "activations": activations}
    fitted = "joint choice" if request.eliminated else "refit" if request.refit else "mask tuning"
    parts |= {fitted: solving, "logits": logits if request.logits else 0}
    parts |= {"predictions": predictions, "gradients": gradients}
    parts |= {"similarity": similarity, "probe": probing, "saving": copy, "libraries": PROCESS}
    parts = {name: amount for name, amount in parts.items() if amount}
    if not on_gpu:
        peak = weights + merged + max(measuring, evaluating, copy) + PROCESS
        return Memory(parts, peak, peak, 0.0, stride)
    held = int((1 - offloaded) * (weights + merged)) + CONTEXT
    working = predictions + max(activations + gradients + (logits if request.logits else 0), fitting)
    # Without a device map all weights pass through main memory on their way.
    loading = int(offloaded * (weights + merged)) if request.spread else weights
    host = PROCESS + max(loading, int(offloaded * (weights + merged)) + max(borders + similarity, probing), copy)
    return Memory(parts, held + max(working, copy), host, offloaded, stride)


def _activations(facts: Facts, request: Request, size: int) -> int:
    """A batch inside a layer: hidden states of the last borders, the FFN's three, and float32 copies for statistics."""
    kept = size * ((request.span + 4) * facts.hidden_size + 3 * facts.intermediate_size)
    return request.batch_tokens * (kept + 4 * (facts.intermediate_size + 2 * facts.hidden_size))


def _gradients(facts: Facts, request: Request, size: int) -> int:
    """What enters every layer of a batch, and one layer in float32 with what its way back needs."""
    if not request.gradients:
        return 0
    entering = facts.layers * facts.hidden_size * size
    inside = 4 * (4 * facts.intermediate_size + 10 * facts.hidden_size)
    return request.batch_tokens * (entering + inside) + (0 if size == 4 else 4 * facts.layer_parameters)


def _masked(facts: Facts, request: Request, size: int) -> int:
    """Output maps of the layers that have units silenced; tuned ones are made of them and lie beside them."""
    inputs = facts.intermediate_size + facts.num_attention_heads * facts.head_dim
    return request.masked * facts.hidden_size * inputs * size * (2 if request.tuned else 1)


def _equations(facts: Facts, request: Request) -> tuple[int, int]:
    """What the sums of a joint choice of units, a refit or a tuning take, and what all does when these are solved."""
    channels, outputs = facts.intermediate_size, facts.hidden_size
    joint = request.eliminated**2
    found = [(8 * joint, JOINT_BYTES * joint)]
    if request.refit:
        solving = 8 * channels * (REFIT_SQUARES * channels + REFIT_SIDES * outputs)
        found.append((16 * channels * (channels + outputs), int(solving)))
    if request.tuned:
        found.append((12 * channels**2, 4 * TUNING_SQUARES * channels**2))
    return max(found, key=max)


def _similarity(facts: Facts, request: Request, size: int) -> int:
    """All borders of a batch, and the tokens sampled for CKA with a float32 copy."""
    if not request.similarity:
        return 0
    borders = facts.layers + 1
    sampled = min(CKA_TOKENS, request.n_tokens) * (size + 8) if "cka" in request.similarity else 0
    return borders * facts.hidden_size * (request.batch_tokens * size + sampled)
