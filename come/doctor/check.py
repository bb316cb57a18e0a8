"""The checks, one after the other; none of them can break the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from pydantic.dataclasses import dataclass

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: of what was looked at.
        state: "ok"; "warn", something will be slow or missing; "bad", something will fail.
        found: what is there, in a few words.
        advice: what to do about it, a sentence; "" where nothing is wrong.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def checks(thorough: bool = False) -> Iterator[Check]:
    """Look at everything. Nothing is changed, and nothing is fetched.

    Args:
        thorough: whether to read whole files and compare their hashes too.
    """
    from come.doctor import caches, installation, machine, services

    groups: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("versions", installation.versions),
        ("device", machine.device),
        ("memory", machine.memory),
        ("disk", machine.disks),
        ("models", lambda: caches.converted(thorough)),
        ("downloads", lambda: caches.downloads(thorough)),
        ("leftovers", caches.leftovers),
        ("network", services.network),
        ("model process", services.resident),
    ]
    for name, look in groups:
        try:
            yield from look()
        except Exception as error:  # one look that fails is a finding, not the end of the others
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            yield Check(name, "warn", f"could not be looked at ({reason})", "Check that its files may be read.")
