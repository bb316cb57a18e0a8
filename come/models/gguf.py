""".gguf files: turned into a safetensors folder once, because reading one takes half a minute."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

import torch

from come import settings
from come.errors import ComeError
from come.events import OnProgress, emit
from come.models.families import family_of


def converted_folder(gguf: Path) -> Path:
    """Where a .gguf file's converted form lies, or would lie: named for the file and its content."""
    stat = gguf.stat()
    return settings.home() / "models" / f"{gguf.stem.lower()}-{_content(gguf, stat.st_size, stat.st_mtime_ns)[:12]}"


def convert(gguf: Path, on_progress: OnProgress = None) -> Path:
    """The folder with the float32 safetensors form of a .gguf file, made now if it is not there yet.

    The folder appears whole or not at all.

    Raises:
        ComeError: the file cannot be read as a supported model, or cannot be written.
    """
    from come.models.auto import quiet

    folder = converted_folder(gguf)
    if (folder / "config.json").is_file():
        return folder
    emit(on_progress, "load", 0, 1, f"Converting {gguf.name} to safetensors, once (about half a minute)")
    model, tokenizer = _read(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as temporary:
            with quiet():
                model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            Path(temporary).chmod(0o755)
            if not folder.exists():
                shutil.move(temporary, folder)
                Path(temporary).mkdir()  # the context manager wants something to remove
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    except Exception as error:  # safetensors reports a full disk in a class of its own
        if "No space left" in str(error):
            raise _unwritable(folder, os.strerror(errno.ENOSPC)) from error
        raise
    return folder


def _unwritable(folder: Path, reason: str) -> ComeError:
    return ComeError(
        f"The converted model could not be written to {folder.parent}: {reason}.",
        "Free some disk space, or set COME_HOME to another folder.",
    )


def _read(gguf: Path) -> tuple[Any, Any]:
    from come.models.auto import AutoConfig, AutoModelForCausalLM, AutoTokenizer, quiet

    try:
        family_of(AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name))
        with quiet(), redirect_stderr(io.StringIO()):  # the conversion draws a bar that no switch turns off
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except ComeError:
        raise
    except Exception as error:
        raise ComeError(
            f"{gguf.name} cannot be read as a language model ({_first_line(error)}).",
            "Choose a .gguf file of a supported family that Transformers reads, such as Llama or Qwen2.",
        ) from error
    # The weights are plain float32 now; while marked as quantized, save_pretrained refuses them.
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


@cache
def _content(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a whole file: exports of two plans of one model differ in nothing but some layers in the middle."""
    del size, mtime_ns  # part of the cache's key only: a file may be written anew
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
