"""Where a run executes: on this machine, or on a Ray cluster. It is no part of what the run computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from come.errors import ComeError

LOCAL = "local"
SPELLINGS = "local, ray://HOST:PORT, ray:auto or HOST:PORT"


@dataclass(frozen=True)
class ClusterTarget:
    """A Ray cluster, and what a run asks of it.

    Attributes:
        text: the place as it was written: an address, and after a "?" any of the others: "ray://head:10001?gpus=0.5".
        address: what Ray connects to: "ray://HOST:PORT" (its client, from any machine), "auto" or "HOST:PORT" (from a
            machine of the cluster).
        cpus: CPUs of a run, and so its threads; 1 by default.
        gpus: GPUs of a run, or a share of one; by default one where the cluster has any and the request allows it.
        layer_gpus: GPUs of a layer that is trained by itself; by default one where the run uses one.
        retries: how often what a lost worker did is done again.
        files: how the run's files come back: "auto" (workers write to the run's directory where they see it, else
            over Ray), "ray", or the URL of a folder that all machines reach ("s3://bucket/runs"; fsspec).
    """

    text: str
    address: str
    cpus: int = 1
    gpus: float | None = None
    layer_gpus: float | None = None
    retries: int = 3
    files: str = "auto"

    @property
    def url(self) -> str | None:
        """The folder through which files come back, if that is how."""
        return self.files.rstrip("/") if "://" in self.files else None


def cluster_target(text: str) -> ClusterTarget | None:
    """The place of that name; None for this machine.

    Raises:
        ComeError: it is no place, or asks for what makes no sense.
    """
    text = text.strip()
    if text in ("", LOCAL):
        return None
    address, _, query = text.partition("?")
    return ClusterTarget(text, _address(address), **_settings(query))


def _address(written: str) -> str:
    if written in ("ray:auto", "ray://auto", "auto"):
        return "auto"
    host, colon, port = written.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536) or "/" in host:
        raise ComeError(f"{written!r} is no place to run on.", f"Give {SPELLINGS}.")
    return written


def _settings(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _READERS:
            raise ComeError(f"A place has no setting {name!r}.", f"The settings: {', '.join(_READERS)}.")
        try:
            found[name] = _READERS[name](value)
        except ValueError:
            raise ComeError(f"The place's setting {name} cannot be {value!r}.", _TAKES[name]) from None
    return found


def _count(value: str) -> int:
    if int(value) < 1:
        raise ValueError
    return int(value)


def _retries(value: str) -> int:
    if int(value) < 0:
        raise ValueError
    return int(value)


def _gpus(value: str) -> float:
    number = float(value)
    if not 0 <= number < float("inf") or (number > 1 and number != int(number)):
        raise ValueError  # Ray divides one GPU, but not several
    return number


def _files(value: str) -> str:
    if value not in ("auto", "ray") and not value.partition("://")[1]:
        raise ValueError
    return value


_READERS = {"cpus": _count, "gpus": _gpus, "layer_gpus": _gpus, "retries": _retries, "files": _files}
_TAKES = {
    "cpus": "Give a whole number above 0.",
    "gpus": "Give a share of one GPU such as 0.5, or a whole number.",
    "layer_gpus": "Give a share of one GPU such as 0.25, or a whole number.",
    "retries": "Give a whole number, 0 for none.",
    "files": "Give auto, ray, or a URL such as s3://bucket/runs.",
}
