"""Bytes in words."""

from __future__ import annotations


def human_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"; binary units, as memory is counted."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
