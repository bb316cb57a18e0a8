"""lm-eval draws bars, logs and seeds the process's generators. Here it does none of that to anyone else."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from come.text.hub import no_progress_bars

_LOGGERS = ("lm_eval", "datasets", "evaluate", "huggingface_hub")


@contextmanager
def quiet() -> Iterator[None]:
    """Within, lm-eval and what it loads data with draw no bars and log nothing; afterwards they do as before."""
    import lm_eval.api.model
    import lm_eval.api.task
    import lm_eval.models.huggingface

    modules = (lm_eval.api.model, lm_eval.api.task, lm_eval.models.huggingface)
    bars = [module.tqdm for module in modules]
    loggers = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
    try:
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = _without_a_bar(bar)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with no_progress_bars():
            yield
    finally:
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar
        for logger, level in loggers.items():
            logger.setLevel(level)


def _without_a_bar(tqdm: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: tqdm(*args, **{**kwargs, "disable": True})


@contextmanager
def seeded() -> Iterator[None]:
    """Within, the process's generators start where lm-eval's command line starts them; afterwards they are as before.

    Some tasks draw the order of their choices from them.
    """
    import numpy as np
    import torch

    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(1234)
            torch.default_generator.manual_seed(1234)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
