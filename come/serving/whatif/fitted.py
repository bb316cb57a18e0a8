"""Windows merged as CoMe-Joint merges them, for what-if questions: fitted on calibration tokens when they are asked."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import entering_window
from come.models import Bundle
from come.pruning.joint import Candidate, joint_candidates
from come.pruning.joint_rules import JointRules
from come.pruning.options import ScoredOptions
from come.serving.cancellation import Cancel, never, stop_if
from come.transforms.compatible import check_mixable


def fitted_window(bundle: Bundle, window: tuple[int, int], tokens: Tensor, cancelled: Cancel = never) -> Candidate:
    """The layer that a window of a model becomes when its channels are chosen together and its maps are moved.

    Args:
        bundle: the model.
        window: (first, last).
        tokens: int64 (sequences, tokens); as in a run, the last of them are not fitted on.
        cancelled: asked at every batch.

    Raises:
        ComeError: the layers cannot become one, or there is one sequence only.
        Cancelled: it was wanted.
    """
    check_mixable(bundle, [window])
    options, runner = ScoredOptions(), LayerRunner(bundle)
    options.check_sequences(len(tokens))
    fitted, _ = options.split(tokens)
    states = entering_window(runner, fitted, window[0], HiddenStateCache.of(bundle, fitted))

    def asking() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in states():
            stop_if(cancelled)
            yield batch

    return joint_candidates(bundle, runner, window, asking, JointRules())[0]
