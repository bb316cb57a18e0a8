"""The password that a server may ask for: where it is given, and what is too short to be one."""

from __future__ import annotations

from collections.abc import Mapping

from come.errors import ComeError

PASSWORD = "COME_PASSWORD"
SHORTEST = 8  # characters


def check_password(environment: Mapping[str, str]) -> None:
    """See that a password, where one is set, keeps anybody out; an empty one, too: somebody meant to set it.

    Raises:
        ComeError: it is too short.
    """
    password = environment.get(PASSWORD)
    if password is not None and len(password.strip()) < SHORTEST:
        raise ComeError(f"{PASSWORD} is short: take at least {SHORTEST} characters, or do not set it.")
