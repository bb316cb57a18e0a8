"""Names that somebody typed, as paths: one that can be no path names nothing that is there."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(name: str | os.PathLike[str]) -> Path:
    """The path of a name, with "~" replaced where it is somebody's home; nothing is raised.

    Look for what is there with ``os.path``, which says no where ``Path`` raises, as for a name of 300 characters.
    """
    try:
        return Path(os.path.expanduser(name))
    except ValueError:  # it names the home of somebody with a NUL character
        return Path(name)
