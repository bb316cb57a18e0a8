"""A public demonstration: whether this is one, and what its visitors need not read."""

from __future__ import annotations

import os
import re

# An absolute path, or one from the home folder, of two names or more; no web address, and no fraction.
_PATH = re.compile(r"(?<![\w:/.<])(?:~|\.{1,2})?/(?:[^\s/'\"`,;:()<>]+/)+([^\s/'\"`,;:()<>]*)")


def is_demo() -> bool:
    """Whether visitors are strangers, who get less: ``COME_DEMO`` is set, and not to 0."""
    return os.environ.get("COME_DEMO", "").strip().lower() not in ("", "0", "false", "no")


def without_paths(text: str) -> str:
    """A text as visitors may read it: in a demonstration each path in it is cut to its last name."""
    return _PATH.sub(r"…/\1", text) if is_demo() else text
