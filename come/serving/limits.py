"""How much may be asked for here, and how much memory the answers may take: the one place that says so, with its base.

On one's own machine little is limited; in a public demonstration (``COME_DEMO``) much is.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from come.files import last_names
from come.serving.run_limits import RunLimits


@dataclass(frozen=True)
class Limits(RunLimits):
    """What is allowed, to runs and beside them.

    Attributes:
        plan_bytes: of all plans that are kept under a name; 0 where none are.
        upload_bytes: of one file. text_bytes: of all texts that were uploaded; beyond it the oldest are removed.
        visitors: how many tabs may be open at once; visitors_each: from one address. None for any number.
        downloads_each: how many downloads of a visit are prepared at once, waiting ones included; None for any number.
        own_runs_only: whether a visitor may end or delete only what they have started themselves.
        model_bytes: of all original models' weights in memory; None for half of what is free at the start. One
            model is always held, whatever its size.
        layer_bytes: of merged layers kept, for each original model.
        border_bytes: of hidden states kept, for each text of a model.
        chance_bytes: of the original's predictions kept, for each text of a model; beyond it they are made again.
        texts: how many texts of a model are kept at hand.
        whatif_tokens: held-out tokens of a what-if question. measured_tokens: calibration tokens of a measuring pass.
        prompt_tokens, new_tokens: of the playground. text_tokens: of a text that models are compared along.
        prompt_characters, text_characters: the same, counted before a text is made tokens, which takes memory.
        pruned_models: how many speak beside the original.
        suggestions: how many are made at once.
        window_seconds: how long windows of an analysed model are measured in the background, and how few layers do.
        idle_seconds: the resident process ends when nobody asked anything for so long.
    """

    plan_bytes: int = 64 << 20
    upload_bytes: int = 200 << 20
    text_bytes: int = 4 << 30
    downloads_each: int | None = None
    visitors: int | None = None
    visitors_each: int | None = None
    own_runs_only: bool = False
    model_bytes: int | None = None
    layer_bytes: int = 1 << 30
    border_bytes: int = 1 << 30
    chance_bytes: int = 1 << 29
    texts: int = 2
    whatif_tokens: int = 16_384
    measured_tokens: int = 65_536
    prompt_tokens: int = 2_048
    prompt_characters: int = 32_768
    text_characters: int = 65_536
    new_tokens: int = 1_024
    window_seconds: float = 120.0
    text_tokens: int = 2_048
    pruned_models: int = 3
    suggestions: int = 5
    idle_seconds: float = 20 * 60


DEMO = Limits(
    models=("smollm2-135m", "HuggingFaceTB/SmolLM2-360M", "Qwen/Qwen2.5-0.5B"),
    own_files=False,
    run_tokens=8_192,
    batch_tokens=8_192,
    task_items=200,
    task_sets=6,
    train_minutes=2.0,
    train_tokens=32_768,
    recover_ways=3,
    options={
        "granularity": (1, 20),
        "sample": (1, 2_048),
        "strengths": (1, 10),
        "rank": (1, 64),
        "round_tokens": (1, 16_384),
        "rounds": (1, 3),  # trainings, each as long as one may be
        "workers": (1, 2),
        "threads": (1, 8),
        "checkpoint_minutes": (1, math.inf),  # a state is three times the model, and no part of the training's time
    },
    request_characters=20_000,
    sweep_runs=6,
    waiting=3,
    waiting_each=1,
    run_minutes=20.0,
    request_minutes=60.0,
    run_minutes_at_most=30.0,
    visit_bytes=3 << 30,
    all_bytes=12 << 30,
    visit_runs=40,
    all_runs=200,
    plan_bytes=0,
    upload_bytes=1 << 20,
    text_bytes=0,
    downloads_each=1,
    visitors=100,
    visitors_each=20,
    keep_model=False,
    own_runs_only=True,
    model_bytes=1 << 30,
    layer_bytes=192 << 20,
    border_bytes=192 << 20,
    chance_bytes=256 << 20,
    texts=1,
    whatif_tokens=4_096,
    measured_tokens=8_192,
    prompt_tokens=512,
    prompt_characters=4_096,
    text_characters=8_192,
    new_tokens=128,
    text_tokens=512,
    suggestions=3,
    window_seconds=60.0,
)


def current() -> Limits:
    """The limits that hold here."""
    return DEMO if is_demo() else Limits()


_PROCESS = re.compile(r" \(process \d+ on [^)]*\)")


def is_demo() -> bool:
    """Whether visitors are strangers, who get less: ``COME_DEMO`` is set, and not to 0."""
    return os.environ.get("COME_DEMO", "").strip().lower() not in ("", "0", "false", "no")


def without_paths(text: str) -> str:
    """A text as visitors may read it: in a demonstration each path is cut to its last name, and no process is named."""
    return last_names(_PROCESS.sub("", text)) if is_demo() else text
