"""How fast a model reads and writes, and what memory it takes, here and now."""

from __future__ import annotations

import gc
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, emit
from come.models import Bundle
from come.models.depth import share
from come.models.offload import input_device
from come.processes import give_back_freed_memory

WARM_UPS = 2  # the first rounds meet cold caches and kernels that are still being chosen
SECONDS_BETWEEN_LOOKS = 0.001  # at the process's memory


@dataclass(frozen=True)
class Speed:
    """A model's speed: medians over rounds, with quartiles.

    Attributes:
        prefill_tokens_per_second: tokens of the prompts read in a second.
        decode_tokens_per_second: tokens written in a second after the first, one at a time with the KV cache, over
            all sequences of the batch.
        time_to_first_token: seconds from the prompt to the first new token.
        weights_bytes: what the weights take in their dtype.
        peak_memory_bytes: the weights, and the most that reading and writing took beside them: on CUDA of memory
            that PyTorch allocated; elsewhere the growth of the process's resident memory, which is coarser.
        quartiles: by the name of each timed metric, its first and third quartile.
        rounds: how many rounds were timed.
        prompt_tokens, new_tokens, batch_size: of what.
        device: on what: "cpu", "cuda:0".
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    time_to_first_token: float
    weights_bytes: int
    peak_memory_bytes: int
    quartiles: dict[str, tuple[float, float]] = field(default_factory=dict)
    rounds: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    batch_size: int = 1
    device: str = "cpu"

    def metrics(self) -> dict[str, Any]:
        """All of it as JSON-ready values."""
        return asdict(self)


def speed(
    bundle: Bundle,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    rounds: int = 5,
    *,
    seed: int = 0,
    on_progress: OnProgress = None,
) -> Speed:
    """``compare_speed`` of one model."""
    return compare_speed(
        bundle,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        batch_size=batch_size,
        rounds=rounds,
        seed=seed,
        on_progress=on_progress,
    )[0]


@torch.inference_mode()
def compare_speed(
    *bundles: Bundle,
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    batch_size: int = 1,
    rounds: int = 5,
    seed: int = 0,
    on_progress: OnProgress = None,
) -> tuple[Speed, ...]:
    """The speed of models, timed in alternation, so that a machine that slows down does so for all of them.

    A round reads random prompts, then writes the likeliest token ``new_tokens`` times, never stopping early. Every
    other round goes through the models in reverse. Before the timed rounds each model has ``WARM_UPS`` of its own;
    after them comes one in which only memory is watched.

    Args:
        bundles: the models.
        prompt_tokens: tokens of each prompt.
        new_tokens: tokens written after it, at least 2.
        batch_size: prompts at a time.
        rounds: how many are timed.
        seed: draws the prompts.
        on_progress: told of each round of each model.

    Raises:
        ComeError: a number is out of range, or a model cannot read that many tokens at once.
    """
    _check(bundles, prompt_tokens, new_tokens, batch_size, rounds)
    timed = [_Timed(bundle, prompt_tokens, new_tokens, batch_size, seed) for bundle in bundles]
    steps = (WARM_UPS + rounds + 1) * len(timed)
    done = 0
    for round_ in range(-WARM_UPS, rounds):
        for each in timed if round_ % 2 == 0 else reversed(timed):
            times = each.round()
            if round_ >= 0:
                each.times.append(times)
            done += 1
            emit(on_progress, "speed", done, steps, f"Round {round_ + 1} of {rounds}" if round_ >= 0 else "Warm-up")
    results = []
    for each in timed:
        results.append(each.result())
        done += 1
        emit(on_progress, "speed", done, steps, "Memory")
    return tuple(results)


class _Timed:
    """A model with the prompts that it is timed on, and the times so far: (first token, the others) in seconds."""

    def __init__(self, bundle: Bundle, prompt_tokens: int, new_tokens: int, batch_size: int, seed: int) -> None:
        self.bundle = bundle
        self.new_tokens = new_tokens
        self.model = share(bundle.model).eval()
        self.device = input_device(self.model)
        generator = torch.Generator().manual_seed(seed)
        size = (batch_size, prompt_tokens)
        self.prompts = torch.randint(self.model.config.vocab_size, size, generator=generator).to(self.device)
        # As `generate` does: of a prompt, only the last position's logits are wanted.
        takes_it = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if takes_it else {}
        self.times: list[tuple[float, float]] = []

    def round(self) -> tuple[float, float]:
        clock = _Clock(self.device)
        output = self.model(self.prompts, use_cache=True, **self.last_only)
        token = self.likeliest(output)
        clock.mark()
        for _ in range(self.new_tokens - 1):
            output = self.model(token, past_key_values=output.past_key_values, use_cache=True)
            token = self.likeliest(output)
        clock.mark()
        return clock.seconds()

    def likeliest(self, output: Any) -> Tensor:
        token: Tensor = output.logits[:, -1:].argmax(-1)
        return token.to(self.device)  # of a model over several GPUs, it comes from the last

    def result(self) -> Speed:
        batch, prompt = self.prompts.shape
        cuda = {parameter.device for parameter in self.model.parameters() if parameter.is_cuda}
        with _watching(cuda) as grown:
            self.round()
        metrics = {
            "prefill_tokens_per_second": [batch * prompt / first for first, _ in self.times],
            "decode_tokens_per_second": [batch * (self.new_tokens - 1) / others for _, others in self.times],
            "time_to_first_token": [first for first, _ in self.times],
        }
        spread = {name: _quartiles(values) for name, values in metrics.items()}
        weights = self.bundle.bytes
        return Speed(
            **{name: median for name, (_, median, _) in spread.items()},
            weights_bytes=weights,
            peak_memory_bytes=weights + grown[0],
            quartiles={name: (lower, upper) for name, (lower, _, upper) in spread.items()},
            rounds=len(self.times),
            prompt_tokens=prompt,
            new_tokens=self.new_tokens,
            batch_size=batch,
            device=str(self.device),
        )


class _Clock:
    """Times between marks: CUDA's own events there, so that the queue of kernels is not stopped between them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.mark()

    def mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            self.marks.append(event)
            return
        if self.device.type == "mps":
            torch.mps.synchronize()
        self.marks.append(time.perf_counter())

    def seconds(self) -> tuple[float, float]:
        start, first, end = self.marks
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return start.elapsed_time(first) / 1000, first.elapsed_time(end) / 1000
        return first - start, end - first


@contextmanager
def _watching(cuda: set[torch.device]) -> Iterator[list[int]]:
    """Within, memory is watched: CUDA devices', else the process's; then the list holds by how many bytes it grew."""
    grown = [0]
    gc.collect()
    if cuda:
        before = {device: torch.cuda.memory_allocated(device) for device in cuda}
        for device in cuda:
            torch.cuda.reset_peak_memory_stats(device)
        yield grown
        for device in cuda:
            torch.cuda.synchronize(device)
            grown[0] += torch.cuda.max_memory_allocated(device) - before[device]
        return
    give_back_freed_memory()  # else what earlier rounds freed is used again, and the process does not grow
    process = psutil.Process()
    at_first = most = process.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()
    grown[0] = max(most, process.memory_info().rss) - at_first


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    lower, median, upper = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    return float(lower), float(median), float(upper)


def _check(bundles: tuple[Bundle, ...], prompt_tokens: int, new_tokens: int, batch_size: int, rounds: int) -> None:
    if min(prompt_tokens, batch_size, rounds) < 1 or new_tokens < 2:
        raise ComeError(
            f"A speed cannot be measured on {prompt_tokens} prompt tokens, {new_tokens} new ones, batches of "
            f"{batch_size} and {rounds} rounds.",
            "Give at least 1 of each, and 2 new tokens.",
        )
    for bundle in bundles:
        longest = getattr(bundle.model.config, "max_position_embeddings", None)
        if longest is not None and prompt_tokens + new_tokens > longest:
            raise ComeError(
                f"{prompt_tokens:,} prompt tokens and {new_tokens:,} new ones are more than the {longest:,} that this "
                "model reads at once.",
                f"Ask for at most {longest:,} together.",
            )
