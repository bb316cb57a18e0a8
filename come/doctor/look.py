"""All looks, one after the other; none of them can break the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from come.doctor import caches, installation, machine, services
from come.doctor.check import Check


def checks(thorough: bool = False) -> Iterator[Check]:
    """Look at everything. Nothing is changed, and nothing is fetched.

    Args:
        thorough: whether to read whole files and compare their hashes too.
    """
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
