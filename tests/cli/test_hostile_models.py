"""Commands that are given a model whose files lie: one sentence, exit 2, and no more memory than a sound one takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.models import hostile, hostile_ggufs
from tests.models.test_hostile_files import GGUFS, REFUSED
from tests.tiny import tiny_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.attack,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]
MORE = 300 << 10  # KiB
GIANT = [
    "config: num_hidden_layers-int-1000000000", "config: hidden_size-int-1000000000",
    "config: num_labels-int-1000000000",
    "config: intermediate_size-int-1000000", "config.json: closed brackets", "config.json: 500 MB",
    "config.json: an endless device", "tokenizer.json: 500 MB", "tokenizer.json: closed brackets",
    "tokenizer_config.json: 500 MB", "tokenizer_config.json: a pipe", "weights: a header of 2^63",
    "weights: a header of 40 MB", "weights: many weights", "weights: an endless device", "index: many",
]  # fmt: skip
GIANT_GGUFS = [
    "49 bytes", "2^60 entries", "a text of 2^63", "a list of 2^60 texts", "a billion layers", "dimensions of 2^63",
    "layers that are not there", "a list of 2^63 bytes",
]  # fmt: skip


# The command, which writes down what it took: the system's own count would begin with that of the tests.
COMMAND = """
import sys
from pathlib import Path
from come.cli import main
status = main(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(status)
"""


def told(*arguments: str) -> tuple[int, str, int]:
    """The exit status of a command, what it says on stderr, and its greatest memory in KiB."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / "status"
        said = subprocess.run([sys.executable, "-c", COMMAND, str(memory), *arguments], capture_output=True, text=True)
        (most,) = re.findall(r"VmHWM:\s+(\d+) kB", memory.read_text())
        return said.returncode, said.stderr, int(most)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("whole"), layers=2)


@pytest.fixture(scope="module")
def usual(whole: Path) -> int:
    """What it takes to tell of a sound model."""
    status, said, memory = told("models", str(whole))
    assert status == 0, said
    return memory


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUST_BACKTRACE", "0")


def refused(named: Path, usual: int, *commands: tuple[str, ...]) -> None:
    for command in commands:
        status, said, memory = told(*command, str(named))
        assert memory < usual + MORE, f"{(memory - usual) >> 10} MiB more"
        if command == ("models",) and status == 0:
            continue  # the facts, and why it is not supported
        assert status == 2 and len(said.strip().splitlines()) == 1 and "fault of ours" not in said, said


@pytest.mark.parametrize("name", GIANT)
def test_a_folder(name: str, whole: Path, usual: int, tmp_path: Path) -> None:
    named = REFUSED[name](Path(shutil.copytree(whole, tmp_path / "model")))
    refused(named, usual, ("models",))


@pytest.mark.parametrize("name", GIANT_GGUFS)
def test_a_gguf_file(name: str, usual: int, tmp_path: Path) -> None:
    refused(GGUFS[name](tmp_path), usual, ("models",))


@pytest.mark.parametrize("name", ["num_hidden_layers", "tokenizer.json: 500 MB", "weights: a header of 2^63"])
def test_the_other_commands(name: str, whole: Path, usual: int, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    damage = REFUSED[name] if name in REFUSED else hostile.config(num_hidden_layers=10**7)
    gguf = hostile_ggufs.the_49_bytes(tmp_path)
    for named in (damage(folder), gguf):
        refused(
            named, usual,
            ("analyze", "--model"), ("run", "--target-layers", "1", "--model"), ("export", "--out", str(tmp_path / "o"))
        )  # fmt: skip
