"""A way of recovery is one file: what it says of itself there is all that the rest goes by."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import come.recovery.ways as folder
from come.cli.request import request_of
from come.errors import ComeError
from come.estimation import Device, estimate
from come.models import describe
from come.recovery import registry
from come.recovery.recover import recover
from come.recovery.registry import default_ways, ways
from tests.recovery.pruned import TOKENS, merged
from tests.tiny import tiny_folder

TOY = '''
"""Halving: the final norm is made half as strong."""

from pydantic import Field

from come.options import Options
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, Work


class HalveOptions(Options):
    by: float = Field(2.0, gt=0, description="What the weights are divided by.")


@register(
    "halve",
    title="Halving",
    paper="none",
    summary="Divide the weights of the final norm.",
    cost="Nothing.",
    order=35,
    default=True,
    options=HalveOptions,
    work=lambda size, options: Work(seconds=options.by * size.lossy),
)
def halve(task: RecoverTask, options: HalveOptions) -> Recovered:
    name = f"{task.student.family.final_norm}.weight"
    return Recovered({name: task.student.model.get_parameter(name) / options.by}, ["halved."])
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new file among the ways."""
    registry.ways()
    (tmp_path / "halve.py").write_text(TOY)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_WAYS", dict(registry._WAYS))
    yield
    sys.modules.pop(f"{folder.__name__}.halve", None)


def test_a_file_is_a_way(toy: None) -> None:
    assert "halve" in ways() and list(ways()) == sorted(ways(), key=lambda name: ways()[name].order)
    assert default_ways() == ["refit", "halve", "logits"]
    student, teacher = merged()
    result = recover(student, teacher, TOKENS, "halve", by=4.0)
    assert torch.equal(result.bundle.model.model.norm.weight * 4, student.model.model.norm.weight)
    assert result.plan.notes[-1] == "Recovery, halve: halved."


def test_the_estimate_and_the_command_line_know_it(toy: None, tmp_path: Path) -> None:
    asked = {"target_layers": 4, "seq_len": 64, "recover": "halve", "recover_tokens": 1024}
    config = request_of({**asked, "recover_options": ["by=10"]})
    device = Device("a machine", {"float32": 1e9}, 1e9, 10**9)
    stages = estimate(config, describe(tiny_folder(tmp_path / "model")), device).seconds_by_stage
    assert stages["recover"] == 20, "of two layers that lost something"
    with pytest.raises(ComeError, match="cannot be 'much'"):
        request_of({**asked, "recover_options": ["by=much"]})
