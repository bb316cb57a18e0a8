"""The names of lm-eval's own tasks, groups and tags. Its index has them too, but parses 12,000 files to know them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_NAME = re.compile(r"""^["']?(task|group)["']?:[ \t]*["']?([^\s"'#]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)
_TAGS = re.compile(r"""^["']?tag["']?:([^\n]*(?:\n[ \t]*- [^\n]*)*)""", re.MULTILINE)
_TAG = re.compile(r"[^\s\"'\[\],-][^\s\"'\[\],]*")


def harness_folder() -> Path:
    """Where lm-eval is installed."""
    spec = find_spec("lm_eval")
    return Path(next(iter(spec.submodule_search_locations or ["."]))) if spec is not None else Path()


@lru_cache(maxsize=1)
def harness_names() -> dict[str, Path | None]:
    """Every name that lm-eval knows, and perhaps one or two that are only templates.

    With it goes the file of a task that stands by itself; None for a group or a tag, which need lm-eval's index.
    """
    tasks: dict[str, Path | None] = {}
    others: set[str] = set()
    for folder, _, files in os.walk(harness_folder() / "tasks"):
        for path in (Path(folder, file) for file in files if file.endswith(".yaml") or "." not in file):
            text = path.read_text("utf-8", errors="replace")
            for tags in _TAGS.findall(text):
                others.update(_TAG.findall(tags))
            named = dict(_NAME.findall(text))
            if "group" in named or not path.suffix:  # templates have no ending
                others.update(named.values())
            elif "task" in named:  # of two files, lm-eval takes the first
                name = named["task"]
                tasks[name] = min(path, tasks.get(name) or path, key=Path.as_posix)
    return {**tasks, **dict.fromkeys(others - {"null"})}
