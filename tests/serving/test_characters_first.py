"""A text is counted before it is made tokens, by the page and by the resident process; and files are small and few."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.server import held_back
from app.server.held_back import HeldBack
from come.errors import ComeError
from come.serving import uploads
from come.serving.limits import DEMO, Limits
from come.serving.resident.requests import Call, RequestHandler


@pytest.mark.parametrize("allowed", [DEMO, Limits()], ids=["demo", "own"])
@pytest.mark.parametrize(
    "kind", [{"do": "generate", "prompt": "a " * 10_000_000}, {"do": "along", "text": "é" * 20_000_000}]
)
def test_a_huge_text_is_refused_before_a_model_or_a_tokenizer_is_touched(allowed: Limits, kind: dict[str, str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call = Call({**kind, "subject": {"model": "smollm2-135m"}}, lambda message: None, lambda: False)
    with pytest.raises(ComeError, match=r"characters of a (prompt|text) are more than is allowed"):
        RequestHandler(allowed).answer(call)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB


def test_the_page_cuts_what_a_browser_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    code = """
import streamlit as st
from app.state import session, widget_state
session.begin()
prompt = widget_state.keep_text("prompt", "x", 2000, 300)
st.text_area("Prompt", key="prompt")
name = st.text_input("Name", key="name")
many = st.multiselect("Several", [], key="several", accept_new_options=True)
st.text(f"{len(prompt)} {len(session.value('prompt'))} {len(name)} {len(many)}")
"""
    at = AppTest.from_string(code, default_timeout=60).run()
    at.text_area(key="prompt").set_value("long " * 1_000_000)
    at.text_input(key="name").set_value("n" * 3_000_000).run()
    assert not at.exception
    assert at.text[0].value == "2000 2000 20000 0"


def test_a_text_in_demo_is_not_kept_and_elsewhere_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    monkeypatch.setenv("COME_DEMO", "1")
    with pytest.raises(ComeError, match="not offered here"):
        uploads.keep_text("a.txt", b"hello " * 10)
    assert not (tmp_path / "texts").exists()
    monkeypatch.delenv("COME_DEMO")
    monkeypatch.setattr("come.serving.limits.current", lambda: Limits(upload_bytes=1000, text_bytes=2500))
    with pytest.raises(ComeError, match="bytes of a text are more"):
        uploads.keep_text("a.txt", b"x" * 1001)
    kept = [uploads.keep_text("a.txt", f"text {number} ".encode() * 120) for number in range(5)]
    left = [path for path in kept if Path(path).exists()]
    assert left == kept[-2:]


# --- files and connections ---------------------------------------------------------------------------


async def _inner(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_files_are_small_where_visitors_are_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    client = TestClient(HeldBack(_inner))
    assert client.put("/_stcore/upload_file/session/file", content=b"x" * 1000).status_code == 204
    assert client.put("/_stcore/upload_file/session/file", content=b"x" * (2 << 20)).status_code == 413
    assert client.put("/base/_stcore/upload_file/session/file", content=b"x" * (2 << 20)).status_code == 413
    assert client.get("/anything").status_code == 204


def test_no_more_visitors_are_let_in_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    from starlette.websockets import WebSocketDisconnect

    monkeypatch.setattr("come.serving.limits.current", lambda: Limits(visitors=3))
    client = TestClient(HeldBack(_inner))
    with ExitStack() as tabs:
        for _ in range(3):
            tabs.enter_context(client.websocket_connect("/_stcore/stream"))
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream"):
            pass
    with client.websocket_connect("/_stcore/stream"):  # somebody has left
        pass


def test_one_address_does_not_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    from starlette.websockets import WebSocketDisconnect

    monkeypatch.setattr("come.serving.limits.current", lambda: Limits(visitors=5, visitors_each=2))
    client = TestClient(HeldBack(_inner), client=("127.0.0.1", 4711))

    def tab(address: str) -> Any:
        return client.websocket_connect("/_stcore/stream", headers={"X-Forwarded-For": f"203.0.113.9, {address}"})

    with ExitStack() as tabs:
        for _ in range(2):
            tabs.enter_context(tab("192.0.2.1"))
        with pytest.raises(WebSocketDisconnect), tab("192.0.2.1"):
            pass
        tabs.enter_context(tab("192.0.2.2"))
    # Who is not behind a known proxy cannot say to be somebody else.
    for address in ("198.51.99.7", "192.168.1.7"):
        scope = {"client": (address, 1), "headers": [(b"x-forwarded-for", b"1.2.3.4")]}
        assert held_back.address_of(scope) == address
        with monkeypatch.context() as named:
            named.setenv("FORWARDED_ALLOW_IPS", f"10.0.0.1,{address}")
            assert held_back.address_of(scope) == "1.2.3.4"
    assert held_back.address_of({"client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"\xff,,")]}) == ""


def test_only_the_newest_files_of_a_tab_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
    from streamlit.runtime.uploaded_file_manager import UploadedFileRec

    manager = MemoryUploadedFileManager("/_stcore/upload_file")
    for tab in ("one", "two"):
        for number in range(50):
            manager.add_file(tab, UploadedFileRec(f"{tab}-{number}", "name", "type", b"x" * 100))

    class Runtime:
        uploaded_file_mgr = manager

    monkeypatch.setattr(held_back, "exists", lambda: True)
    monkeypatch.setattr(held_back, "get_instance", Runtime)
    held_back.drop_files("one", 2)
    assert list(manager.file_storage["one"]) == ["one-48", "one-49"] and len(manager.file_storage["two"]) == 50
    held_back.drop_files("nobody", 2)
