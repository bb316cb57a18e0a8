"""Writing files of a run anew, as a run of that plan or request would have left them."""

from __future__ import annotations

import json
from typing import Any

from come.runs import Run


def rewrite_plan(run: Run, values: dict[str, Any]) -> None:
    """Another plan, and results that know it for theirs."""
    (run.path / "plan.json").write_text(json.dumps(values))
    results = run.path / "results.json"
    results.write_text(json.dumps({**json.loads(results.read_text()), "plan": ""}))


def rewrite_request(run: Run, values: dict[str, Any]) -> None:
    """Another request, and a state that knows it for what it began with."""
    (run.path / "config.json").write_text(json.dumps(values))
    run.update(request="")
