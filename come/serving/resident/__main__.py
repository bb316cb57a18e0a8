"""`python -m come.serving.resident`: the resident process, which its client starts when it is needed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from come import logs
from come.serving.limits import current
from come.serving.resident.server import serve


def main(arguments: list[str]) -> None:
    """Serve for the process with this id and ``start_id``; a third argument says for how many idle seconds."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    limits = current()
    if len(arguments) > 2:
        limits = replace(limits, idle_seconds=float(arguments[2]))
    logs.write_to("resident", ["come", "uvicorn"])
    logs.note("come.resident", "The model process is there.", versions=logs.versions())
    serve(limits, (int(arguments[0]), arguments[1]) if len(arguments) > 1 else None)
    logs.note("come.resident", "The model process has ended.")
    sys.stderr.flush()
    os._exit(0)  # whatever is still at work, nobody waits for it


if __name__ == "__main__":
    main(sys.argv[1:])
