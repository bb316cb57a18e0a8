"""Prints benchmark tables: all of them, or those that are named."""

from __future__ import annotations

import importlib
import sys

from benchmarks.timing import machine

TABLES = {
    "visit": "a whole first visit: analysis, CoMe, two baselines' perplexities",
    "measuring": "measure() against a plain forward",
    "progressive": "the progressive loop against its necessary work and the straightforward way",
    "search": "CoMe-P's candidates against scoring copies of the model",
    "joint": "the whole of CoMe-Joint in passes of the trunk",
    "whatif": "an answer to a what-if question against the layers from the lowest change on and the head",
    "pages": "how soon figures of a 7B model and page switches are drawn in Chromium",
    "arriving": "how much a page jumps while it loads, against Streamlit's own document",
    "memory": "peak memory under a budget",
    "training": "a training step against matrix products, and its memory",
    "scaling": "cost against tokens and layers",
    "scale": "a 70B model on paper: memory, passes, hours",
    "estimate": "the cost model against measured runs, and for models and devices that are not here",
}


def main(names: list[str]) -> int:
    """Print the tables of those names."""
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. Choose from: {', '.join(TABLES)}.", file=sys.stderr)
        return 2
    print(f"{machine()}\n", flush=True)
    for name in names or TABLES:
        print(f"## {name}: {TABLES[name]}\n", flush=True)
        print(importlib.import_module(f"benchmarks.{name}").table(), "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
