"""What visitors of a public demonstration need not read: where things lie on the server."""

from __future__ import annotations

import re

from come import settings

# An absolute path, or one from the home folder, of two names or more; no web address, and no fraction.
_PATH = re.compile(r"(?<![\w:/.<])(?:~|\.{1,2})?/(?:[^\s/'\"`,;:()<>]+/)+([^\s/'\"`,;:()<>]*)")


def shown(text: str) -> str:
    """A text as visitors may read it: where ``COME_DEMO`` is set, each path in it is cut to its last name."""
    return _PATH.sub(r"…/\1", text) if settings.demo() else text
