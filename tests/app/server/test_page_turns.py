"""Pages of one address are drawn a few at a time; another address waits for none of them."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from app.server import page_turns


@pytest.fixture
def at_address(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """Where the script of this thread comes from."""
    here = threading.local()
    monkeypatch.setenv("COME_DEMO", "1")

    class Context:
        @property
        def headers(self) -> dict[str, str]:
            return {}

        @property
        def ip_address(self) -> str:
            return str(here.address)

    monkeypatch.setattr(page_turns, "st", SimpleNamespace(context=Context()))
    return here


def test_one_address_is_drawn_a_few_at_a_time_and_others_wait_for_none_of_it(at_address: threading.local) -> None:
    now, most, over = [0], [0], threading.Event()
    lock = threading.Lock()

    def draw() -> None:
        at_address.address = "198.51.100.1"
        with page_turns.turn():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            over.wait(5)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=draw) for _ in range(6)]
    for thread in threads:
        thread.start()
    while now[0] < page_turns.AT_ONCE:
        time.sleep(0.01)
    at_address.address = "198.51.100.2"
    with page_turns.turn():  # does not wait
        assert now[0] == page_turns.AT_ONCE
    over.set()
    for thread in threads:
        thread.join()
    assert most[0] == page_turns.AT_ONCE and not page_turns._drawn


def test_who_only_follows_something_lets_the_next_one_in(at_address: threading.local) -> None:
    at_address.address = "198.51.100.3"
    with page_turns.turn():
        assert page_turns._drawn["198.51.100.3"] == 1
        page_turns.give_back()
        assert not page_turns._drawn
        page_turns.give_back()
    assert not page_turns._drawn


def test_a_page_that_ends_early_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    code = """import streamlit as st
from app.server import page_turns
with page_turns.turn():
    st.text('a')
    st.stop()"""
    at = AppTest.from_string(code, default_timeout=240).run()
    assert not at.exception and at.text[0].value == "a" and not page_turns._drawn
