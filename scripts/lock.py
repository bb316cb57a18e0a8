"""Writes the lock files anew: what is installed, by version and hash, for Python 3.11 to 3.13 on Linux and macOS.

`make lock` runs it after an edit of requirements*.txt; versions that still fit stay as they are, `make lock
LOCK_ARGS=--upgrade` takes the newest. They are installed with --no-deps, so each holds all that it needs:

requirements.lock        the library, the page and the bundled model, but for torch and what only its CUDA build needs
requirements-torch.lock  torch: the builds of PyPI (on Linux with CUDA) and the CPU builds of PyTorch's own index
requirements-cuda.lock   what the CUDA build of torch needs
requirements-dev.lock    what tests, lint and benchmarks need beside these
requirements-build.lock  what builds the packages that come as sources
requirements-tools.lock  this script's own tools, in an environment of their own
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".venv-tools" / "bin"
PYTORCH = "https://download.pytorch.org/whl/cpu"
LOCKED_BUILDS = re.compile(r"cp31[123]-.*manylinux")  # of PyTorch's index
OF_CUDA = re.compile(r"nvidia-|cuda-|triton")
HEADER = "# Written by `make lock` (scripts/lock.py): edit requirements*.txt instead.\n"


def main(arguments: list[str]) -> None:
    """Resolve, split by who installs it, and write."""
    with tempfile.TemporaryDirectory() as folder:
        places = iter(Path(folder) / str(number) for number in range(9))

        def of(name: str, locked: tuple[str, ...], *more: str) -> dict[str, str]:
            return resolved(name, next(places), [*arguments, *more], locked)

        app = of("requirements.txt", ("requirements.lock", "requirements-cuda.lock"))
        bundled = of("requirements-bundled.txt", (), "--no-deps")
        build = of("requirements-build.txt", ())
        known = next(places)
        known.write_text("".join([*app.values(), *build.values()]), "utf-8")
        dev = of("requirements-dev.txt", ("requirements-dev.lock",), "-c", str(known))
        tools = of("requirements-tools.txt", ("requirements-tools.lock",))
    (torch,) = (requirement for requirement in app if requirement.startswith("torch=="))
    cuda = {name: entry for name, entry in app.items() if OF_CUDA.match(name)}
    write("requirements.lock", {name: each for name, each in {**app, **bundled}.items() if name not in {torch, *cuda}})
    write("requirements-torch.lock", {torch: with_cpu_builds(torch, hashes(app[torch]))})
    write("requirements-cuda.lock", cuda)
    write("requirements-build.lock", build)
    write("requirements-dev.lock", {name: entry for name, entry in dev.items() if name not in {**app, **build}})
    write("requirements-tools.lock", tools)


def resolved(given: str, place: Path, arguments: list[str], locked: tuple[str, ...]) -> dict[str, str]:
    """What a file of requirements comes to: by requirement ("name==version ; marker"), its lines with hashes."""
    # uv keeps the versions that its output file holds already.
    place.write_text("".join((ROOT / name).read_text("utf-8") for name in locked if (ROOT / name).exists()))
    command = [TOOLS / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--output-file", place]
    subprocess.run([*map(str, command), *arguments, given], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    entries = re.findall(r"^\S.*(?:\n[ ].*)*\n", place.read_text("utf-8"), re.MULTILINE)
    return {entry.partition(" \\\n")[0].strip(): entry for entry in entries}


def with_cpu_builds(torch: str, of_pypi: list[str]) -> str:
    """The entry of torch: the hashes of PyPI's builds, and of PyTorch's CPU builds of that version.

    PyTorch's index names the hash of each file in its address. Where it cannot be reached, those that are known stay.
    """
    version = torch.removeprefix("torch==")
    try:
        with urlopen(f"{PYTORCH}/torch/", timeout=30) as answer:
            listed = answer.read().decode()
        builds = re.findall(rf"/(torch-{re.escape(version)}(?:%2B|\+)cpu-[^\"#]+)#sha256=(\w{{64}})", listed)
        cpu = [digest for name, digest in builds if LOCKED_BUILDS.search(name)]
        if not cpu:
            raise SystemExit(f"PyTorch's index has no CPU build of torch {version}.")
    except OSError:
        before = (ROOT / "requirements-torch.lock").read_text("utf-8")
        if f"{torch} " not in before:
            raise SystemExit(f"{PYTORCH} must be reached for the hashes of torch {version}.") from None
        print(f"{PYTORCH} cannot be reached: the hashes of its builds stay as they are.")
        cpu = hashes(before)
    return torch + "".join(f" \\\n    --hash=sha256:{each}" for each in sorted({*of_pypi, *cpu})) + "\n"


def hashes(entry: str) -> list[str]:
    """The SHA-256 of each file that some lines of a lock allow."""
    return re.findall(r"sha256:([0-9a-f]{64})", entry)


def write(name: str, entries: dict[str, str]) -> None:
    """Write a lock file, by name."""
    (ROOT / name).write_text(HEADER + "".join(entries[key] for key in sorted(entries)), "utf-8")
    print(f"{name}: {len(entries)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
