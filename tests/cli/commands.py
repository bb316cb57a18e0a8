"""How little a command of a test works on, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from come.cli import main

SMALL = ("--tokens", "512", "--seq-len", "64")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json, having succeeded without a word on stderr."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return json.loads(out)
