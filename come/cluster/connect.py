"""Connecting to a Ray cluster, quickly, and in one sentence where it cannot be."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from come.errors import ComeError
from come.runs.cluster_target import ClusterTarget

ANSWER = 5.0  # seconds that an address has to answer
TRIES = 3  # at a cluster that is there, but does not take us in
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # what a gRPC client says first
_AUTO_CONNECT = "RAY_ENABLE_AUTO_CONNECT"
_SETTINGS = 4  # the kind of frame that a gRPC server answers with


def check_reachable(place: ClusterTarget) -> None:
    """See that Ray is installed here, and that something that could be Ray answers at the address.

    Raises:
        ComeError: it is not, or nothing does, within ``ANSWER`` seconds or two.
    """
    if importlib.util.find_spec("ray") is None:
        raise ComeError(
            f"Ray is not installed here, so nothing can run on {place.text}.",
            "Install it with pip install -r requirements-ray.txt, or run locally.",
        )
    if place.address.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise ComeError(
            "Addresses with ray:// need Ray's client, which is not installed here.",
            "Install it with pip install -r requirements-ray.txt.",
        )
    if place.address == "auto":
        return
    host, _, port = place.address.removeprefix("ray://").rpartition(":")
    try:
        answered = _speaks_grpc(host.strip("[]"), int(port))
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise ComeError(
            f"There is no Ray at {place.address} ({reason.lower()}).", "Check the address, and that the cluster is up."
        ) from error
    if not answered:
        raise ComeError(
            f"What answers at {place.address} is not Ray.",
            "Ray's client listens on 10001 by default (ray://HOST:10001), the cluster itself on 6379 (HOST:6379).",
        )


@contextmanager
def connected(place: ClusterTarget) -> Iterator[Any]:
    """Ray, connected to a cluster; a connection that this process has already is used and kept.

    Raises:
        ComeError: there is no Ray here or at the address, or its version is another.
    """
    check_reachable(place)
    ray = _imported()
    if ray.is_initialized():
        yield ray
        return
    for left in reversed(range(TRIES)):
        try:
            ray.init(address=place.address, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:
            # A client gets a server of its own, which on a busy machine may not be there in time.
            if not (left and isinstance(error, ConnectionAbortedError)):
                raise _sentence(place, error) from error
    try:
        yield ray
    finally:
        with suppress(Exception):  # the cluster may be gone
            ray.shutdown()


def _imported() -> Any:
    """Ray, which by itself would answer a lost connection by starting a cluster on this machine at the next call."""
    before = os.environ.get(_AUTO_CONNECT)
    os.environ[_AUTO_CONNECT] = "0"  # read once, on import
    try:
        import ray
    finally:
        if before is None:
            del os.environ[_AUTO_CONNECT]
        else:
            os.environ[_AUTO_CONNECT] = before
    return ray


def _speaks_grpc(host: str, port: int) -> bool:
    """Whether what listens there answers a gRPC client's first words; OSError where nothing does."""
    with socket.create_connection((host, port), timeout=ANSWER) as connection:
        connection.settimeout(ANSWER)
        connection.sendall(_HELLO)
        answer, until = b"", time.monotonic() + ANSWER
        while len(answer) < 9 and time.monotonic() < until:
            part = connection.recv(9 - len(answer))
            if not part:
                break
            answer += part
    return len(answer) == 9 and answer[3] == _SETTINGS


def _sentence(place: ClusterTarget, error: Exception) -> ComeError:
    """What to tell of Ray's own words."""
    words = " ".join(str(error).split())
    versions = re.findall(r"Ray: (\S+) Python: (\S+)", words)
    if len(versions) == 2:
        (their_ray, their_python), (our_ray, our_python) = versions
        return ComeError(
            f"The cluster at {place.address} has Ray {their_ray} and Python {their_python}, this machine has Ray "
            f"{our_ray} and Python {our_python}.",
            "Both must be the same on all machines.",
        )
    if place.address == "auto":
        return ComeError("No Ray cluster runs on this machine.", "Start one with ray start --head, or give an address.")
    if "node info" in words or "node_ip_address" in words or "raylet" in words.lower():
        return ComeError(
            f"This machine is not one of the Ray cluster at {place.address}.",
            f"Join it with ray start --address={place.address}, or use its client's address, ray://HOST:10001.",
        )
    if "AuthToken" in words or "AuthToken" in str(error.__cause__):
        return ComeError(
            f"The Ray cluster at {place.address} asks for a token.",
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token if ~/.ray/auth_token does not hold it.",
        )
    return ComeError(
        f"Ray at {place.address} cannot be connected to ({type(error).__name__}: {words[:200]}).",
        "Check the address, that the cluster is up, and whether it asks for a token (then set RAY_AUTH_MODE=token).",
    )
