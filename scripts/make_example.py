"""Makes app/example anew: real runs on the bundled model, without weights, so that no page opens empty.

Run it from the project's root with .venv/bin/python -m scripts.make_example; it takes half an hour on two
cores. Names such as come-joint-24 make those runs alone anew. Then scripts.example_answers, scripts.lesson_values
and scripts.lesson_runs, which record what is shown of these runs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from app.state.choice import DEFAULT_SPARSITY
from come import runs
from come.models import describe
from come.recovery.registry import default_ways
from come.request import RunConfig
from come.runs import layers_needed, window_costs
from come.serving import layers_needed as needed_aside

EXAMPLE = Path("app/example")
KEPT = ("config.json", "results.json", "plan.json", "analysis.safetensors", window_costs.FILE, layers_needed.FILE)
# Which machine and process it was is nobody's business.
NOBODY = {"pid": None, "process_start_id": "", "process_started": None, "host": ""}
RECOVERED = ("come-joint", 24)  # by the way that is offered first, for the lesson
REQUESTS = {"analyze": RunConfig(kind="analyze")} | {
    f"{method}-{layers}": RunConfig(
        method=method,
        target_layers=layers,
        keep_model=False,
        recover=default_ways() if (method, layers) == RECOVERED else [],
    )
    for layers in (27, 24, 21)
    for method in ("come-joint", "come", "shortgpt", "random")
}


def main(names: list[str]) -> None:
    """Execute the requests of those names, or all, and keep the small files of each run."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["COME_RUNS"] = scratch
        made = []
        for request in (REQUESTS[name] for name in names or REQUESTS):
            run = runs.create(request)
            runs.execute(run)
            state = run.state()
            assert state.status == "done", state.error
            made.append(run)
            if request.kind == "analyze":
                window_costs.measure(run, _sizes(request))
                for tolerance in needed_aside.TOLERANCES:
                    passes = describe(request.model).layers
                    layers_needed.measure(run, needed_aside.SEQUENCES, tolerance, passes)
        for name in names or REQUESTS:
            for old in EXAMPLE.glob(f"*-{name}-????"):
                shutil.rmtree(old)
        for run in made:
            folder = EXAMPLE / run.id
            folder.mkdir(parents=True)
            for name in KEPT:
                if (run.path / name).exists():
                    shutil.copy(run.path / name, folder / name)
            anonymous = run.written_state().model_copy(update=NOBODY)
            (folder / "state.json").write_text(anonymous.model_dump_json(indent=1))


def _sizes(request: RunConfig) -> list[int]:
    """How many layers the windows have whose costs are shown: pairs, and the window of the plan to begin with."""
    facts = describe(request.model)
    return [2, facts.layers - facts.layers_for_sparsity(DEFAULT_SPARSITY) + 1]


if __name__ == "__main__":
    main(sys.argv[1:])
