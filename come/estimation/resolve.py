"""From what a run may take to the layers that it leaves: decided once, and stored with the request."""

from __future__ import annotations

from functools import partial

from come.errors import ComeError
from come.estimation.latency import latency
from come.estimation.needs import dtype_of
from come.estimation.targets import Answer, file_at, layers_for, memory_at
from come.events import OnProgress
from come.files import human_bytes, parse_bytes
from come.models import Facts, describe
from come.pruning.compress import check_request
from come.pruning.registry import method
from come.request import CONTEXT, Asked, RunConfig


def with_layers_for(
    config: RunConfig,
    max_memory: str | int | None = None,
    max_bytes: str | int | None = None,
    speedup: float | None = None,
    context: int = CONTEXT,
    on_progress: OnProgress = None,
) -> RunConfig:
    """The request with the most layers that meet these targets, which stand beside them as notes (``asked``).

    The layers are what is stored and run, here or on another machine: nothing is chosen again.

    Args:
        config: a request that says nothing of how far to prune.
        max_memory, max_bytes, speedup, context: as ``layers_for`` takes them; for a speed-up the original is timed,
            unless that was done before.
        on_progress: told while it is timed.

    Raises:
        ComeError: no depth that the method reaches meets them, something else says how far to prune, or the method
            keeps every layer.
    """
    chosen = method(config.method)
    by_hand = chosen.parse(config.options).instead_of_target
    said = {"target_layers": config.target_layers, "sparsity": config.sparsity, by_hand: by_hand}
    if given := [name for name, value in said.items() if value is not None]:
        raise ComeError(
            f"{' and '.join(map(str, given))} cannot be given together with a target of memory, bytes or speed.",
            "Each says alone how far to prune.",
        )
    if chosen.target == "parameters":
        raise ComeError(
            f"{chosen.title} keeps every layer and silences parts of them: memory, files and speed stay the same.",
            "Choose a method that leaves fewer layers, or give sparsity.",
        )
    facts = describe(config.model)
    if not facts.supported:
        raise ComeError(facts.reason)
    dtype = dtype_of(config, facts)
    saved = config.save_dtype or dtype
    fitting = partial(layers_for, facts, dtype, max_memory, max_bytes, context=context, save_dtype=saved)
    fitting()  # refuses at once what needs no timing
    times = latency(config.model, dtype, config.device, on_progress=on_progress) if speedup is not None else None
    answer = fitting(speedup=speedup, latency=times)
    asked = Asked(
        max_memory=parse_bytes(max_memory) if max_memory is not None else None,
        context=answer.context,
        max_bytes=parse_bytes(max_bytes) if max_bytes is not None else None,
        speedup=speedup,
        expected=answer.speedup,
        answer=" ".join([answer.sentence, *([times.sentence] if times is not None else [])]),
    )
    _check_reach(config, facts, answer, dtype, saved)
    return config.model_copy(update={"target_layers": answer.layers, "asked": asked})


def _check_reach(config: RunConfig, facts: Facts, answer: Answer, dtype: str, saved: str) -> None:
    """Refuse layers that the method does not come down to, and say what it comes down to takes."""
    for layers in range(answer.layers, facts.layers + 1):
        try:
            check_request(facts, config.method, layers, None, config.options)
        except ComeError as error:
            if layers == facts.layers:
                raise
            refused = error
            continue
        if layers > answer.layers:
            memory, file = memory_at(facts, layers, dtype, answer.context), file_at(facts, layers, saved)
            raise ComeError(
                f"{refused.what.rstrip('.')}, and the targets leave {answer.layers} of {facts.layers}.",
                f"{layers} layers, the fewest, take {human_bytes(memory)} of memory and {human_bytes(file)} on disk.",
            )
        return
