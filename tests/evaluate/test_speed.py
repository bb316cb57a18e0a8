"""No time is asserted: only that what is told is whole, and that nothing is changed."""

from __future__ import annotations

import pytest
import torch

import come
from come.errors import ComeError
from come.evaluate import compare_speed
from come.events import Event
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle


@pytest.mark.parametrize("family", CASES)
def test_every_family_reads_and_writes(family: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    found = come.speed(bundle, prompt_tokens=9, new_tokens=4, batch_size=2, rounds=3)
    assert weights_hash(bundle.model) == before
    assert isinstance(found, come.Speed)
    assert found.weights_bytes == bundle.bytes <= found.peak_memory_bytes
    assert (found.rounds, found.prompt_tokens, found.new_tokens, found.batch_size) == (3, 9, 4, 2)
    for name, (lower, upper) in found.quartiles.items():
        assert 0 < lower <= getattr(found, name) <= upper
    assert found.prefill_tokens_per_second == pytest.approx(18 / found.time_to_first_token)
    assert set(found.metrics()) >= {"decode_tokens_per_second", "quartiles", "device"}


def test_models_are_timed_in_alternation(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tiny_bundle(layers=2), tiny_bundle(layers=3)
    ran: list[int] = []
    forward = type(small.model).forward

    def noted(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        ran.append(self.config.num_hidden_layers)
        return forward(self, *args, **kwargs)

    noted.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(type(small.model), "forward", noted)
    events: list[Event] = []
    compare_speed(small, large, prompt_tokens=4, new_tokens=2, rounds=3, on_progress=events.append)
    warm_ups, timed, memory = [2, 3, 3, 2], [2, 3, 3, 2, 2, 3], [2, 3]
    assert ran[::2] == warm_ups + timed + memory
    assert [event.step for event in events] == list(range(1, 13))
    assert events[-1].of == 12


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"prompt_tokens": 0}, "cannot be measured"),
        ({"new_tokens": 1}, "2 new tokens"),
        ({"rounds": 0}, "cannot be measured"),
        ({"prompt_tokens": 250, "new_tokens": 7}, "at most 256"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int], sentence: str) -> None:
    with pytest.raises(ComeError, match=sentence):
        come.speed(tiny_bundle(), **numbers)
