"""Files that are replaced whole: a reader, or a crash, finds the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; on disk, it takes the name at the end, and goes if anything fails.

    Raises:
        OSError: the folder may not be written to, or the disk is full.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it the owner's alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
