"""The .zip of a plan with its weights: its plan.json is read, and whatever else it may be ends in a sentence."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import come.runs
from app.plan import uploaded
from come.errors import ComeError
from come.serving import pack
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
PLAN = json.dumps({"method": "come", "options": {"windows": [[2, 3]]}}).encode()


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return held.getvalue()


GOOD = zipped({"run-plan/plan.json": PLAN, "run-plan/weights.safetensors": bytes(range(256)) * 9})


def with_flag(data: bytes) -> bytes:
    """The same, said to be locked by a password."""
    at = data.index(b"PK\1\2")
    return data[:8] + b"\1" + data[9 : at + 8] + b"\1" + data[at + 9 :]


def lying(data: bytes) -> bytes:
    """The same, whose list says that the plan is a tenth as long as it is."""
    at = data.index(b"PK\1\2") + 24
    return data[:at] + struct.pack("<L", len(PLAN) // 10) + data[at + 4 :]


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_plan_in_it_is_read(how: int) -> None:
    assert uploaded.plan_in(zipped({"a/plan.json": PLAN, "a/weights.safetensors": b"x" * 5000}, how)) == PLAN
    assert uploaded.read("Plan.ZIP", zipped({"plan.json": PLAN}, how))[1].windows == [(2, 3)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no .zip"),
        (b"dear diary, this is no plan", "no .zip"),
        (GOOD[:-30], "no .zip"),
        (zipped({"notes.txt": b"x"}), "holds no plan.json"),
        (zipped({"a/plan.json": PLAN, "b/plan.json": PLAN}), "holds several plan.json"),
        (zipped({f"{number}": b"" for number in range(1001)} | {"plan.json": PLAN}), "more files"),
        (zipped({"plan.json": b" " * (uploaded.LONGEST + 1)}, zipfile.ZIP_DEFLATED), "at most 1.0 MiB"),
        (zipped({"plan.json": PLAN}, zipfile.ZIP_LZMA), "not read here"),
        (with_flag(GOOD), "locked"),
        (lying(GOOD), "cannot be read"),
    ],
)
def test_one_that_is_no_plan_ends_in_a_sentence(data: bytes, said: str) -> None:
    with pytest.raises(ComeError, match=said):
        uploaded.plan_in(data)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
@settings(deadline=None)
def test_a_damaged_one_is_read_or_ends_in_a_sentence(at: int, other: bytes) -> None:
    damaged = GOOD[:at] + other + GOOD[at + len(other) :]
    try:
        assert len(uploaded.plan_in(damaged)) <= uploaded.LONGEST
    except ComeError as error:
        assert ".zip" in str(error)


@pytest.mark.usefixtures("no_process")
def test_the_page_takes_what_a_run_packs(visit: Visit, lab: Lab, tmp_path) -> None:
    run = next(run for run in come.runs.list_runs() if run.config.method == "come")
    pack.write(tmp_path / "plan.zip", {f"x/{path.name}": path for path in pack.plan_files(run)})
    at = visit("plan", target="4")
    at.file_uploader(key="upload").upload("plan.zip", (tmp_path / "plan.zip").read_bytes(), "application/zip").run()
    assert not at.exception and not at.error
    (toast,) = at.toast
    assert toast.value.startswith("The uploaded plan is open. Its ")
    assert "windows" in at.query_params


@pytest.mark.usefixtures("no_process")
def test_a_file_of_another_kind_is_refused_where_the_click_was(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.file_uploader(key="upload").upload("diary.txt", b"dear diary", "text/plain").run()
    (error,) = at.error
    assert error.value.startswith("This file is no plan. Upload a plan that was downloaded here")
    assert [len(place.get("error")) for place in at.get("popover") if place.get("file_uploader")] == [1]
