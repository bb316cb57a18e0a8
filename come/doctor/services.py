"""What answers from elsewhere: the hub, and the process that holds the models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from come import processes
from come.doctor.check import Check
from come.errors import ComeError
from come.serving.resident import address, connection

SECONDS_TO_ANSWER = 5.0
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
SOURCES = Path(__file__).resolve().parents[1]


def network() -> Iterator[Check]:
    """Whether the hub answers; not asked where that is switched off."""
    if offline := [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]:
        yield Check("network", "ok", f"not asked: {offline[0]} is set, so nothing is fetched")
        return
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if urlsplit(hub).scheme not in ("http", "https"):
        yield Check(
            "network", "bad", f"HF_ENDPOINT is {hub}", "Set it to an address that begins with https://, or unset it."
        )
        return
    try:
        with urlopen(Request(hub, method="HEAD"), timeout=SECONDS_TO_ANSWER):
            pass
    except HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        advice = "Only what is here can be used. Set HF_HUB_OFFLINE=1, so that nothing waits for it."
        yield Check("network", "warn", f"{urlsplit(hub).netloc} does not answer ({reason})", advice)
        return
    yield Check("network", "ok", f"{urlsplit(hub).netloc} answers")


def resident() -> Iterator[Check]:
    """The model process of this user and COME_HOME, if one runs."""
    known = address.read_address()
    if known is None or not processes.is_alive(known.pid, known.start_id):
        yield Check("model process", "ok", "none runs; the first question starts one")
        return
    end = f"End it: kill {known.pid}. The next question starts another."
    try:
        answers = connection.running() is not None
    except ComeError:
        answers = False
    started = processes.started_at(known.pid)
    newest = max(file.stat().st_mtime for file in SOURCES.rglob("*.py"))
    if not answers:
        yield Check("model process", "warn", f"process {known.pid} does not answer", end)
    elif started and newest > started:
        since = datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M")
        yield Check("model process", "warn", f"process {known.pid}, of {since}, is older than the sources", end)
    else:
        yield Check("model process", "ok", f"process {known.pid} answers")
