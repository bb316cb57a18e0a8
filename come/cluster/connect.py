"""Reaching a Ray cluster, its job server or itself, quickly, and in one sentence where it cannot be."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.runs.cluster_target import ClusterTarget

ANSWER = 5.0  # seconds that an address has to answer
MARK = "come-job "  # begins a line of a job's log that the process which submitted it reads
TRIES = 3  # at a cluster that is there, but does not take us in
# This very code goes along, so that only what it needs has to be there.
RUNTIME_ENV: dict[str, Any] = {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"]}
# Ray would answer a lost connection by starting a cluster on this machine at the next call; read as it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")


def check_reachable(target: ClusterTarget) -> None:
    """See that Ray is installed here, and that a job server answers at the address.

    Raises:
        ComeError: it is not, or none does, within ``ANSWER`` seconds.
    """
    if any(importlib.util.find_spec(package) is None for package in ("ray", "aiohttp")):  # the second: its job client
        raise ComeError(
            f"Ray is not installed here, so nothing can run on {target.text}.",
            "Install it with pip install -r requirements-ray.txt, or run locally.",
        )
    if target.job_server == "auto":
        return
    try:
        with urllib.request.urlopen(f"{target.job_server}/api/version", timeout=ANSWER) as answer:
            is_ray = "ray_version" in json.load(answer)
    except urllib.error.HTTPError as error:
        is_ray = error.code in (401, 403)  # it asks for a token, which goes with the requests of Ray's own client
    except OSError as error:
        cause = getattr(error, "reason", error)
        reason = getattr(cause, "strerror", None) or str(cause) or "no answer"
        raise ComeError(
            f"There is no Ray job server at {target.job_server} ({reason.lower()}).",
            "Check the address, and that the cluster's head has ray[default] and was started with "
            "--dashboard-host=0.0.0.0; a port other than 8265 is given as jobs=PORT.",
        ) from error
    except Exception:  # whatever it speaks, it is not this
        is_ray = False
    if not is_ray:
        raise ComeError(
            f"What answers at {target.job_server} is not Ray's job server.",
            "It listens on 8265 by default (http://HOST:8265); give another port as ray://HOST:10001?jobs=PORT.",
        )


def job_client(target: ClusterTarget) -> Any:
    """Ray's ``JobSubmissionClient`` of a cluster.

    Raises:
        ComeError: there is no Ray here, or no job server at the address.
    """
    check_reachable(target)
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):  # they tell of every package that goes there
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(target.job_server)
    except Exception as error:
        raise _sentence(target, error) from error


@contextmanager
def connected(target: ClusterTarget) -> Iterator[Any]:
    """Ray itself, connected to a cluster; a connection that this process has already is used and kept.

    Raises:
        ComeError: there is no Ray here or at the address, its version is another, or the address is a job server's.
    """
    if target.address.startswith("http"):
        raise ComeError(
            f"Files cannot come back from {target.address}: jobs there do not see the folder of runs.",
            "Give a folder that all machines reach, ?files=s3://bucket/runs, or Ray's own address, ray://HOST:10001.",
        )
    import ray

    if ray.is_initialized():
        yield ray
        return
    for left in reversed(range(TRIES)):
        try:
            ray.init(address=target.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=RUNTIME_ENV)
            break
        except Exception as error:
            # A client gets a server of its own, which on a busy machine may not be there in time.
            if not (left and isinstance(error, ConnectionAbortedError)):
                raise _sentence(target, error) from error
    try:
        yield ray
    finally:
        with suppress(Exception):  # the cluster may be gone
            ray.shutdown()


def _sentence(target: ClusterTarget, error: Exception) -> ComeError:
    """What to tell of Ray's own words."""
    words = " ".join(str(error).split())
    versions = re.findall(r"Ray: (\S+) Python: (\S+)", words)
    if len(versions) == 2:
        (their_ray, their_python), (our_ray, our_python) = versions
        return ComeError(
            f"The cluster at {target.address} has Ray {their_ray} and Python {their_python}, this machine has Ray "
            f"{our_ray} and Python {our_python}.",
            "Both must be the same on all machines.",
        )
    if target.address == "auto":
        return ComeError("No Ray cluster runs on this machine.", "Start one with ray start --head, or give an address.")
    if "node info" in words or "node_ip_address" in words or "raylet" in words.lower():
        return ComeError(
            f"This machine is not one of the Ray cluster at {target.address}.",
            f"Join it with ray start --address={target.address}, or use its client's address, ray://HOST:10001.",
        )
    if "AuthToken" in words or "AuthToken" in str(error.__cause__) or type(error).__name__ == "AuthenticationError":
        return ComeError(
            f"The Ray cluster at {target.address} asks for a token.",
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token if ~/.ray/auth_token does not hold it.",
        )
    return ComeError(
        f"Ray at {target.address} cannot be connected to ({type(error).__name__}: {words[:200]}).",
        "Check the address, that the cluster is up, and whether it asks for a token (then set RAY_AUTH_MODE=token).",
    )
