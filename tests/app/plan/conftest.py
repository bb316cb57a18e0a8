"""What tests of the plan page share."""

from __future__ import annotations

import pytest

from app.plan.whatif import ask
from come.errors import ComeError


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page must do all of it without predictions; none is on its way when the test ends."""

    def refuse(*_: object, **__: object) -> None:
        raise ComeError("The model process could not be started.", "Free some memory, and try again.")

    monkeypatch.setattr(ask.client, "whatif", refuse)
