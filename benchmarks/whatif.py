"""What-if: an answer against what it cannot do without, the layers from the lowest change on and the head."""

from __future__ import annotations

import statistics

import torch

import come
from benchmarks.timing import bundled, in_turn, markdown, ratio, seconds
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import sequence_losses, states_at
from come.serving.whatif.question import Merge, Question
from come.serving.whatif.whatif import WhatIf, what_if
from come.transforms.rebuild import replay

ROUNDS = 5
N_TOKENS, SEQ_LEN = 1024, 128
LOWEST = (2, 10, 20, 27)  # of the bundled model's 30 layers
EVERY = 4  # a window more at every so many layers above


def table(rounds: int = ROUNDS) -> str:
    """One row a dtype and lowest window, every answer to a question that was not asked before."""
    columns = ("dtype", "lowest window", "layers", "answer, s", "answer / (suffix + head)", "whole evaluation / answer")
    rows, prepared = [], []
    for dtype in ("float32", "bfloat16"):
        bundle, calibration = bundled(dtype, n_tokens=2048)
        held_out = come.tokens(bundle, "python-docs", N_TOKENS, SEQ_LEN, "evaluation")
        measurement = come.measure(bundle, calibration, similarity=())
        made: list[WhatIf] = []
        took = seconds(lambda: made.append(what_if(bundle, held_out, measurement)))  # noqa: B023 - called at once
        prepared.append(f"{took:.2g} s in {dtype}")
        rows += [_row(dtype, made[0], held_out, lowest, rounds) for lowest in LOWEST]
    note = (
        f"{N_TOKENS:,} held-out tokens in sequences of {SEQ_LEN}; every answer has a merged layer to make. The one "
        f"pass before the first answer took {' and '.join(prepared)}."
    )
    return markdown(columns, rows) + "\n\n" + note


def _row(dtype: str, whatif: WhatIf, held_out: torch.Tensor, lowest: int, rounds: int) -> tuple[str | int | float, ...]:
    edited = LayerRunner(whatif.build(_question(whatif, lowest, 0)))
    asked = iter(range(1, rounds + 2))

    def answer() -> None:
        assert not whatif.answer(_question(whatif, lowest, next(asked))).cached

    def necessary() -> None:
        suffix_and_head(whatif, edited, lowest, held_out)

    def whole() -> None:
        come.perplexity(replay(whatif.bundle, whatif.plan(_question(whatif, lowest, 0))), held_out)

    answer(), necessary()  # both once for nothing: the machine warms up
    answers, base, evaluations = in_turn([answer, necessary, whole], rounds)
    return (
        dtype,
        f"{lowest}-{lowest + 1}",
        len(edited),
        statistics.median(answers),
        ratio(answers, base),
        ratio(evaluations, answers),
    )


def _question(whatif: WhatIf, lowest: int, variant: int) -> Question:
    """Pairs from a lowest one on, that one by another ratio in every variant."""
    share = 0.5 + variant / 100
    others = range(lowest + EVERY, len(whatif.bundle.layers) - 1, EVERY)
    pairs = (Merge(first=first, last=first + 1) for first in others)
    return Question(merges=(Merge(first=lowest, last=lowest + 1, ratio=(share, 1 - share)), *pairs))


@torch.inference_mode()
def suffix_and_head(whatif: WhatIf, edited: LayerRunner, lowest: int, tokens: torch.Tensor) -> None:
    """The layers of the edited model from its lowest merged one on, and the head with its loss; nothing else."""
    for batch in batches(tokens):
        hidden_states = states_at(edited, batch.index, batch.tokens, lowest, whatif.original.borders)
        for layer in range(lowest, len(edited)):
            hidden_states = edited.run(layer, hidden_states)
        sequence_losses(edited, edited.norm(hidden_states), batch.tokens)
