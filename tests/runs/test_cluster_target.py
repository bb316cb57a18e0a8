"""Where a run executes: the spellings of a cluster, and what each asks of it."""

from __future__ import annotations

import pytest

from come.errors import ComeError
from come.runs import cluster_target


@pytest.mark.parametrize("text", ["", "local", " local "])
def test_here_is_no_place(text: str) -> None:
    assert cluster_target(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ray://head:10001", "ray://head:10001"),
        ("10.0.0.4:6379", "10.0.0.4:6379"),
        ("ray://[::1]:10001", "ray://[::1]:10001"),
        ("ray:auto", "auto"),
        ("auto", "auto"),
        ("http://head:8265", "http://head:8265"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    place = cluster_target(text)
    assert place is not None
    assert (place.text, place.address, place.cpus, place.gpus, place.retries) == (text, address, 1, None, 3)
    assert place.files == "auto" and place.url is None


def test_what_a_run_asks_for_follows_the_address() -> None:
    place = cluster_target("ray://head:10001?gpus=0.5&layer_gpus=0.25&cpus=4&retries=0&files=s3://bucket/runs/")
    assert place is not None
    assert (place.address, place.cpus, place.gpus, place.layer_gpus, place.retries, place.url) == (
        "ray://head:10001", 4, 0.5, 0.25, 0, "s3://bucket/runs",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ray://head:10001", "http://head:8265"),
        ("10.0.0.4:6379", "http://10.0.0.4:8265"),
        ("ray://[::1]:10001?jobs=8266&gpus=1", "http://[::1]:8266"),
        ("http://head:80", "http://head:80"),
        ("https://head:443?gpus=1", "https://head:443"),
        ("ray:auto", "auto"),
    ],
)
def test_each_address_has_its_job_server(text: str, server: str) -> None:
    place = cluster_target(text)
    assert place is not None and place.job_server == server


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("head", "no place"),
        ("ray://head", "no place"),
        ("ftp://head:80", "no place"),
        ("http://head", "no place"),
        ("http://head:8265/jobs", "no place"),
        ("ray:auto?jobs=x", "jobs cannot be 'x'"),
        ("ray://head:99999", "no place"),
        ("ray://:10001", "no place"),
        ("ray:auto?gpu=1", "no setting 'gpu'"),
        ("ray:auto?gpus=1.5", "gpus cannot be '1.5'"),
        ("ray:auto?gpus=nan", "gpus cannot be"),
        ("ray:auto?cpus=0", "cpus cannot be"),
        ("ray:auto?retries=-1", "retries cannot be"),
        ("ray:auto?files=bucket", "files cannot be"),
    ],
)
def test_what_is_no_place(text: str, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        cluster_target(text)
