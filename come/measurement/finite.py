"""Values that are no longer numbers: nothing is decided from them."""

from __future__ import annotations

import torch
from torch import Tensor

from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner


def check_finite(values: Tensor, runner: LayerRunner) -> None:
    """Refuse values that overflowed, or came of weights that are not numbers.

    Args:
        values: what something would be decided from, of any shape.
        runner: the model that gave them.

    Raises:
        ComeError: some value is infinite or not a number; says whether the weights or the dtype are to blame.
    """
    if bool(values.isfinite().all()):
        return
    again = "Fetch or convert the model again."
    if any(bool(weight.isnan().any()) for weight in runner.weights()):
        raise ComeError("Some of the model's weights are not numbers.", again)
    hints = {torch.float16: "Use bfloat16 or float32.", torch.float32: again}
    dtype = str(runner.dtype).removeprefix("torch.")
    raise ComeError(f"The model's values overflow in {dtype}.", hints.get(runner.dtype, "Use float32."))
