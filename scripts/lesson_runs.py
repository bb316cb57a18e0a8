"""Measures anew what the shipped runs came to on their way: .venv/bin/python -m scripts.lesson_runs

A run keeps the numbers of its end. The lesson also shows those on the way there, on the same held-out tokens: the
perplexity after every merge of CoMe's longest run (the first steps of its plan are replayed), and that of the run with
recovery after its first way alone (the request is executed again without the others). Both go to
app/learn/values/on_the_way.json. Run it after scripts.make_example; "loop" or "recovery" measures one of them alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import come
from app import example_runs
from app.learn import material, on_the_way
from come import runs
from come.evaluate.perplexity import measure_perplexity
from come.runs import Run
from come.text import tokens
from come.transforms.rebuild import replay


def main(names: list[str]) -> None:
    """Measure, and write what was found beside what is not measured now."""
    for name in names or ["loop", "recovery"]:
        measured = {"loop": loop, "recovery": recovery}[name]()
        found = json.loads(on_the_way.FILE.read_text("utf-8")) if on_the_way.FILE.is_file() else {}
        on_the_way.FILE.write_text(json.dumps(found | {name: measured}, indent=1) + "\n", encoding="utf-8")


def loop() -> dict[str, Any]:
    """The perplexity of the original and after each merge of the longest run of CoMe."""
    analysed = material.analysis_run()
    run = material.longest(analysed.config.model) if analysed is not None else None
    assert run is not None
    config, plan = run.config, run.plan()
    assert plan is not None
    bundle = come.load(config.model, dtype="float32")
    held_out = tokens(
        bundle,
        config.text,
        config.evaluation_tokens,
        config.seq_len,
        "evaluation",
        config.evaluation_seed,
        bos=config.bos,
    )
    each = []
    for merges in range(len(plan.steps) + 1):
        pruned = replay(bundle, plan.model_copy(update={"steps": plan.steps[:merges]}))
        measured = measure_perplexity(pruned, held_out).metrics()
        each.append({name: measured[name] for name in ("perplexity", "perplexity_stderr")})
        print(merges, each[-1], flush=True)
    return {"run": run.id, "merges": each}


def recovery() -> dict[str, Any]:
    """What the run with recovery had come to after its first way, and before it."""
    shipped = next(run for run in example_runs.runs() if run.config.recover)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["COME_RUNS"] = scratch
        again = runs.create(shipped.config.model_copy(update={"recover": shipped.config.recover[:1]}))
        runs.execute(again)
        return {"run": shipped.id} | {side: _metrics(again, side) for side in ("unrecovered", "pruned")}


def _metrics(run: Run, side: str) -> dict[str, float]:
    results = run.results()[side]
    return {name: results[name] for name in ("perplexity", "perplexity_stderr")}


if __name__ == "__main__":
    main(sys.argv[1:])
