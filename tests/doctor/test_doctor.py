"""`come doctor`: what it finds of damage that was done here, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from come import processes, settings
from come.doctor import caches, installation, machine, services
from come.doctor.check import Check
from come.doctor.look import checks
from come.serving.resident import address
from come.serving.resident.address import Address
from tests.tiny import tiny_folder


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home, runs and hub cache of the test's own; nothing outside is asked."""
    for name in ("COME_HOME", "COME_RUNS", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def state_of(found: Any, name: str) -> str:
    return max((each.state for each in found if each.name.startswith(name)), key=["ok", "warn", "bad"].index)


def test_all_of_it_on_this_machine(places: Path) -> None:
    """In a process of its own: in this one a test before it may have left a thread that still writes."""

    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "come", "doctor", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    environment, before = dict(os.environ), sorted(places.rglob("*"))
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.delenv("COME_HOME")
        answer, shown = doctor("--json"), doctor().stdout
    told = json.loads(answer.stdout)
    names = {each["name"] for each in told}
    assert {"Python", "packages", "device", "memory", "disk of models", "disk of runs", "network", "leftovers"} <= names
    assert answer.returncode == (2 if any(each["state"] == "bad" for each in told) else 0)
    assert all(bool(each["advice"]) == (each["state"] != "ok") for each in told), "what is wrong says what to do"
    assert sorted(places.rglob("*")) == before, "nothing was changed"
    assert all(each["name"] in shown for each in told)


def test_a_look_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: 1 / 0)
    monkeypatch.setattr(machine, "_PROBE", "")  # its own test tries it
    found = list(checks())
    assert state_of(found, "memory") == "warn" and {"network", "disk of runs"} <= {each.name for each in found}


def _cut(weights: Path) -> None:
    os.truncate(weights, weights.stat().st_size - 1)


def _lies(weights: Path) -> None:
    weights.write_bytes((1 << 62).to_bytes(8, "little") + weights.read_bytes()[8:])


def _nested(weights: Path) -> None:
    weights.write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)


DAMAGE: list[Callable[[Path], object]] = [
    _cut,
    _lies,
    _nested,
    lambda weights: weights.write_bytes(b""),
    lambda weights: weights.unlink(),
    lambda weights: weights.write_bytes(weights.read_bytes() + b"0"),
    lambda weights: weights.write_bytes(b"\xff" * weights.stat().st_size),
    lambda weights: (weights.parent / "config.json").write_text("{"),
    lambda weights: (weights.parent / "config.json").write_text("[" * 100_000),
    lambda weights: (weights.parent / "config.json").unlink(),
    lambda weights: (weights.parent / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "b.safetensors"}}'
    ),
    lambda weights: (weights.parent / "model.safetensors.index.json").write_text("7"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_converted_model_that_is_not_whole_is_told_of(damage: Callable[[Path], object]) -> None:
    folder = tiny_folder(settings.home() / "models")
    assert state_of(caches.converted(), "converted") == "ok"
    damage(next(folder.glob("*.safetensors")))
    (told,) = [each for each in caches.converted() if each.name == "converted model"]
    assert told.state == "bad" and str(folder) in told.advice


def test_downloads_by_name_and_by_content(places: Path) -> None:
    blobs = places / "HF_HUB_CACHE" / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / hashlib.sha256(b"weights").hexdigest()).write_bytes(b"weights")
    assert state_of(caches.downloads(True), "downloads") == "ok"
    (blobs / "x.incomplete").write_bytes(b"half")
    assert state_of(caches.downloads(), "downloads") == "warn"
    (blobs / hashlib.sha256(b"others").hexdigest()).write_bytes(b"damaged")
    assert state_of(caches.downloads(), "downloads") == "warn", "names alone say nothing of contents"
    assert state_of(caches.downloads(True), "downloads") == "bad"


def test_what_killed_processes_left_is_told_of_a_day_later() -> None:
    left = settings.home() / "models" / ".converting-x"
    left.mkdir(parents=True)
    assert state_of(caches.leftovers(), "leftovers") == "ok", "somebody may be at it"
    os.utime(left, (time.time() - 2 * caches.A_DAY,) * 2)
    assert state_of(caches.leftovers(), "leftovers") == "warn"


def test_versions_that_are_not_the_required_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    required = tmp_path / "requirements.txt"
    for text, state in (
        ("pydantic>=2 # fine\n\n", "ok"),
        ("pydantic==1.0\n", "warn"),
        ("no-such-package==1\n", "bad"),
        ("never==1; python_version < '3'\n", "ok"),
        ("not a requirement!\n", "ok"),
    ):
        required.write_text(text)
        assert state_of(installation.versions(), "packages") == state, text


@pytest.mark.parametrize(
    ("probe", "state"),
    [
        ("raise SystemExit('no driver')", "bad"),
        ("import os; os.abort()", "bad"),
        ("import time; time.sleep(60)", "bad"),
        ('print(\'{"kind": "cpu", "fine": false, "names": [], "free": [], "torch": "2"}\')', "bad"),
        ('print(\'{"kind": "mps", "fine": true, "names": [], "free": [], "torch": "2"}\')', "ok"),
        ('print(\'{"kind": "cuda", "fine": true, "names": ["A"], "free": [1], "torch": "2"}\')', "warn"),
    ],
)
def test_a_device_that_does_not_work_is_told_of(monkeypatch: pytest.MonkeyPatch, probe: str, state: str) -> None:
    monkeypatch.setattr(machine, "_PROBE", probe)
    monkeypatch.setattr(machine, "SECONDS_TO_ASK_GPU", 1)
    assert state_of(machine.device(), "device") == state


def test_a_gpu_that_this_pytorch_cannot_use_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_has_nvidia", lambda: True)
    monkeypatch.setattr(
        machine, "_PROBE", 'print(\'{"kind": "cpu", "fine": true, "names": [], "free": [], "torch": "2+cpu"}\')'
    )
    assert state_of(machine.device(), "device") == "warn"


def test_room_that_is_short(monkeypatch: pytest.MonkeyPatch, places: Path) -> None:
    monkeypatch.setattr(machine, "TOO_LITTLE_DISK", 1 << 60)
    monkeypatch.setattr(machine, "TOO_LITTLE_MEMORY", 1 << 60)
    assert state_of(machine.disks(), "disk of runs") == state_of(machine.memory(), "memory") == "bad"
    monkeypatch.undo()
    (places / "limit").write_text(str(1 << 60))
    monkeypatch.setattr(machine, "_CGROUP", places / "limit")
    (memory,) = machine.memory()
    assert "that this container may use" in memory.found
    (places / "limit").write_text("1000")
    assert state_of(machine.memory(), "memory") == "bad"


def test_a_folder_that_everybody_may_write_to(places: Path) -> None:
    (places / "COME_RUNS").chmod(0o777)
    assert state_of(machine.disks(), "disk of runs") == "bad"


def test_a_folder_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, places: Path) -> None:
    (places / "file").write_text("")
    monkeypatch.setenv("COME_HOME", str(places / "file" / "below"))
    assert state_of(machine.disks(), "disk of models") == "bad"


def test_the_network_is_asked_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(services, "urlopen", asked)
    assert state_of(services.network(), "network") == "ok"
    monkeypatch.undo()
    for name in services.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    for endpoint, state in (("http://127.0.0.1:9", "warn"), ("file:///etc/passwd", "bad")):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert state_of(services.network(), "network") == state


def test_a_model_process_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(services.resident(), "model process") == "ok"
    me = os.getpid()
    address.write_address(Address(me, processes.start_id(me), str(address.folder() / address.SOCKET)))
    (told,) = services.resident()
    assert (
        told == Check("model process", "warn", f"process {me} does not answer", told.advice) and str(me) in told.advice
    )
    monkeypatch.setattr(services.connection, "running", lambda: object())
    newest = services.SOURCES / "doctor" / "check.py"
    assert state_of(services.resident(), "model process") in ("ok", "warn"), "by the sources' age"
    monkeypatch.setattr(services.processes, "started_at", lambda pid: newest.stat().st_mtime - 1)
    assert "older than the sources" in next(services.resident()).found
