"""What a run reported, read from its events."""

from __future__ import annotations

import pytest

from come.runs import reported

# A recovery by two ways, the first layer by layer, as a run's events tell it.
EVENTS = [
    {"stage": "compress", "values": {"step": 1, "train_loss": 9.0}},
    {"stage": "recover", "values": {"way": "distill-mp"}},
    {"stage": "recover", "values": {"layer": 3, "step": 1, "train_loss": 0.9, "held_out_loss": None}},
    {"stage": "recover", "values": {"layer": 3, "step": 2, "train_loss": 0.4, "held_out_loss": 0.8}},
    {"stage": "recover", "values": {"layer": 3, "step": 3, "train_loss": 0.3, "held_out_loss": None}},
    {"stage": "recover", "values": {"layer": 3, "step": 4, "train_loss": 0.2, "held_out_loss": 0.9}},
    {"stage": "recover", "values": {"layer": 4, "step": 1, "train_loss": 0.7, "held_out_loss": None}},
    {"stage": "recover", "values": {"way": "logits"}},
    {"stage": "recover", "values": {"layer": None, "step": 1, "train_loss": 0.08, "held_out_loss": 0.3}},
]


def test_the_losses_of_a_recovery_are_told_by_way_and_layer() -> None:
    table = reported.curves(EVENTS)
    assert reported.parts(table) == ["distill-mp, layer 3", "distill-mp, layer 4", "logits"]
    losses = reported.of_part(table, "distill-mp, layer 3")
    assert losses["training"].to_dict() == {1: 0.9, 2: 0.4, 3: 0.3, 4: 0.2}
    assert losses["held out"].to_dict() == {2: 0.8, 4: 0.9}
    drawn = reported.live(losses)["held out"]  # a line chart draws nothing over gaps
    assert drawn[3] == pytest.approx(0.85) and drawn[[1]].isna().all()
    assert reported.held_out(losses) == "Held-out loss 0.9 after step 4, the lowest 0.8 after step 2."
    assert reported.held_out(reported.of_part(table, "distill-mp, layer 4")) == ""


def test_the_log_keeps_the_last_state_of_a_progress_bar() -> None:
    assert reported.tail("a\n 1%\r 50%\r100%\r\nb") == "a\n100%\nb"
