"""The logs of servers: JSON lines, bounded, for the user alone."""

from __future__ import annotations

import json
import logging
import stat
import threading
from pathlib import Path

import pytest

from come import logs


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> logging.Logger:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    logger = logging.getLogger("come_test_of_logs")
    logger.handlers.clear()
    logs.write_to("server", [logger.name])
    return logger


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_record_is_a_line(logger: logging.Logger) -> None:
    logs.note(logger.name, "Served.", port=8501, odd=Path("/x"))
    # Not by the logger: pytest would keep the half character, and cannot send its report.
    half = {"name": logger.name, "levelno": logging.WARNING, "msg": "Two\nlines, %s\ud800", "args": ("ä" * 9000,)}
    logs.JsonLines(logs.path_of("server")).emit(logging.makeLogRecord(half))
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("It failed.")
    served, long, failed = lines(logs.path_of("server"))
    assert (served["level"], served["message"], served["port"], served["odd"]) == ("info", "Served.", 8501, "/x")
    assert str(served["time"]).endswith("Z") and served["pid"]
    assert len(str(long["message"])) == logs.LONGEST_MESSAGE
    assert "ZeroDivisionError" in str(failed["fault"])


def test_it_is_the_users_alone_and_bounded(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 10_000)
    writers = [threading.Thread(target=lambda: [logger.warning("x" * 200) for _ in range(200)]) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    path = logs.path_of("server")
    assert sorted(each.name for each in path.parent.iterdir()) in (
        ["server.jsonl", "server.jsonl.1"],
        ["server.jsonl.1"],
    )
    for file in path.parent.iterdir():
        assert file.stat().st_size < 12_000 and stat.S_IMODE(file.stat().st_mode) == 0o600 and lines(file)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_log_that_cannot_be_written_fails_nobody(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.path_of("server").parent.rmdir()
    logger.warning("lost")
    logs.path_of("server").parent.write_text("in its place")
    logger.warning("lost")
    monkeypatch.setenv("COME_HOME", str(logs.path_of("server").parent))
    logs.write_to("server", ["come_test_of_logs_too"])
    assert not logging.getLogger("come_test_of_logs_too").handlers


def test_it_is_attached_once(logger: logging.Logger) -> None:
    logs.write_to("server", [logger.name])
    logger.warning("once")
    assert len(lines(logs.path_of("server"))) == 1
