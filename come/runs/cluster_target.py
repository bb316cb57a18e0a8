"""Where a run executes: on this machine, or on a Ray cluster. It is no part of what the run computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from come.errors import ComeError

LOCAL = "local"
SPELLINGS = "local, ray://HOST:PORT, ray:auto, HOST:PORT or http://HOST:PORT"
JOBS_PORT = 8265  # where a cluster's job server (its dashboard) listens, unless it was started otherwise


@dataclass(frozen=True)
class ClusterTarget:
    """A Ray cluster, and what a run asks of it.

    Attributes:
        text: the place as it was written: an address, and after a "?" any of the others: "ray://head:10001?gpus=0.5".
        address: "ray://HOST:PORT" (Ray's client, from any machine), "auto" or "HOST:PORT" (from a machine of the
            cluster), or "http://HOST:PORT" (the job server itself).
        cpus: CPUs of a run, and so its threads; 1 by default.
        gpus: GPUs of a run, or a share of one; by default one where the cluster has any and the request allows it.
        layer_gpus: GPUs of a layer that is trained by itself; by default one where the run uses one.
        retries: how often what a lost worker did is done again.
        jobs: the port of the job server, on the machine of the address.
        files: how the run's files come back: "auto" (jobs write to the run's directory where they see it, else over
            Ray), "ray", or the URL of a folder that all machines reach ("s3://bucket/runs"; fsspec).
    """

    text: str
    address: str
    cpus: int = 1
    gpus: float | None = None
    layer_gpus: float | None = None
    retries: int = 3
    jobs: int = JOBS_PORT
    files: str = "auto"

    @property
    def job_server(self) -> str:
        """Where jobs are handed in: "http://HOST:PORT", or "auto" for the cluster of this machine."""
        if self.address == "auto" or "http" in self.address.partition("://")[0]:
            return self.address
        return f"http://{self.address.removeprefix('ray://').rpartition(':')[0]}:{self.jobs}"

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
    scheme = next((each for each in ("ray://", "http://", "https://") if written.startswith(each)), "")
    host, colon, port = written.removeprefix(scheme).rpartition(":")
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


_READERS = {
    "cpus": _count,
    "gpus": _gpus,
    "layer_gpus": _gpus,
    "retries": _retries,
    "jobs": _count,
    "files": _files,
}
_TAKES = {
    "cpus": "Give a whole number above 0.",
    "gpus": "Give a share of one GPU such as 0.5, or a whole number.",
    "layer_gpus": "Give a share of one GPU such as 0.25, or a whole number.",
    "retries": "Give a whole number, 0 for none.",
    "jobs": "Give the port of the job server, 8265 unless it was started otherwise.",
    "files": "Give auto, ray, or a URL such as s3://bucket/runs.",
}
