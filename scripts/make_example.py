"""Makes app/example anew: real runs on the bundled model, without weights, so that no page opens empty.

Run it from the project's root with .venv/bin/python -m scripts.make_example; it takes a quarter of an hour on two
cores. Then scripts.example_answers and scripts.lesson_values, which record what is shown of these runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from come import runs
from come.request import RunConfig

EXAMPLE = Path("app/example")
KEPT = ("config.json", "results.json", "plan.json", "analysis.safetensors")
# Which machine and process it was is nobody's business.
NOBODY = {"pid": None, "process_start_id": "", "process_started": None, "host": ""}
REQUESTS = [
    RunConfig(kind="analyze"),
    *(
        RunConfig(method=method, target_layers=layers, keep_model=False)
        for layers in (27, 24, 21)
        for method in ("come-joint", "come", "shortgpt", "random")
    ),
]


def main() -> None:
    """Execute every request and keep the small files of each run."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["COME_RUNS"] = scratch
        made = []
        for request in REQUESTS:
            run = runs.create(request)
            runs.execute(run)
            state = run.state()
            assert state.status == "done", state.error
            made.append(run)
        shutil.rmtree(EXAMPLE, ignore_errors=True)
        for run in made:
            folder = EXAMPLE / run.id
            folder.mkdir(parents=True)
            for name in KEPT:
                if (run.path / name).exists():
                    shutil.copy(run.path / name, folder / name)
            anonymous = run.written_state().model_copy(update=NOBODY)
            (folder / "state.json").write_text(anonymous.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
