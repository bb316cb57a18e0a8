"""How few layers the calibration sequences of an analysis would have needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from come.events import OnProgress
from come.runs.run import Run

if TYPE_CHECKING:
    from come.pruning.layers_needed import LayersNeeded


PASSES = 100.0


def layers_needed_by(
    run: Run, sequences: int, tolerance: float = 0.0, passes: float = PASSES, on_progress: OnProgress = None
) -> list[LayersNeeded]:
    """``come.pruning.layers_needed`` of the first calibration sequences of an analysis.

    Args:
        run: a finished analysis.
        sequences: of how many; all that there are, where these are fewer.
        tolerance, passes, on_progress: as there.

    Raises:
        ComeError: the model's values are not finite.
    """
    from come.pruning.layers_needed import layers_needed
    from come.runs.shared import Shared

    shared = Shared()
    bundle = shared.bundle(run.config, on_progress)
    tokens = shared.tokens(bundle, run.config, "calibration", on_progress)
    return layers_needed(bundle, tokens[:sequences], tolerance, passes, on_progress)
