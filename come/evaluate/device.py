"""Where a model wants its input."""

from __future__ import annotations

from typing import Any

import torch


def input_device(model: Any) -> torch.device:
    """The device of a model's embeddings; the CPU where accelerate keeps those elsewhere: hooks move what comes in."""
    device: torch.device = model.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device
