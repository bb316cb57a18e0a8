"""The resident process times a model, for how fast fewer layers would be."""

from __future__ import annotations

import pytest

from come.estimation.latency import known_latency
from come.models import describe
from come.serving.resident import client
from come.serving.whatif.question import Subject

pytestmark = pytest.mark.usefixtures("resident")


@pytest.mark.slow
def test_a_model_is_timed_and_the_time_remembered(subjects: dict[str, Subject]) -> None:
    subject, events = subjects["llama"], list[str]()
    facts = describe(subject.model)
    assert known_latency(facts, facts.dtype) is None
    said = client.latency(subject, on_progress=lambda event: events.append(event.message))
    found = known_latency(facts, facts.dtype)
    assert found is not None and found.sentence == said and max(found.seconds) == facts.layers
    assert any("Round" in each for each in events)
