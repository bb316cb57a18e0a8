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
from come.errors import ComeError, is_panic, reason_of
from come.events import OnProgress, emit
from come.models.families import family_of
from come.models.gguf_file import alone
from come.models.gguf_header import read_gguf_config, refuse_unread
from come.models.quantized import plain
from come.models.skeleton import empty_model
from come.models.strict import read_model, refuse_another
from come.models.tokenizer import read_tokenizer
from come.processes import give_back_freed_memory

_FORM = "2"  # of what lies in COME_HOME; what was converted in the first one was not checked


def converted_folder(gguf: Path) -> Path:
    """Where a .gguf file's converted form lies, or would lie: named for the file and its content."""
    stat = gguf.stat()
    content = _content(gguf, stat.st_size, stat.st_mtime_ns)[:12]
    return settings.home() / "models" / f"{gguf.stem.lower()}-{content}-{_FORM}"


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
    emit(on_progress, "convert", 0, 1, f"Converting {gguf.name} to safetensors, once")
    model, tokenizer = _read(gguf)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as temporary:
            with quiet():
                model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            refuse_another(Path(temporary), model)
            Path(temporary).chmod(0o755)
            if not folder.exists():
                shutil.move(temporary, folder)
                shutil.rmtree(folder.with_name(folder.name.removesuffix(f"-{_FORM}")), ignore_errors=True)
                Path(temporary).mkdir()  # the context manager wants something to remove
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error
    except Exception as error:  # safetensors reports a full disk in a class of its own
        if "No space left" in str(error):
            raise _unwritable(folder, os.strerror(errno.ENOSPC)) from error
        raise
    del model, tokenizer
    give_back_freed_memory()  # as much again as the model takes, which is about to be loaded
    emit(on_progress, "convert", 1, 1, f"Converted {gguf.name}")
    return folder


def _unwritable(folder: Path, reason: str) -> ComeError:
    return ComeError(
        f"The converted model could not be written to {folder.parent}: {reason}.",
        "Free some disk space, or set COME_HOME to another folder.",
    )


def _read(gguf: Path) -> tuple[Any, Any]:
    """The model and the tokenizer in a .gguf file, in float32."""
    from come.models.auto import quiet

    try:
        config = read_gguf_config(gguf)
        family_of(config)
        refuse_unread(gguf, empty_model(config))
        with alone(gguf) as file, quiet(), redirect_stderr(io.StringIO()):  # a bar is drawn that no switch turns off
            tokenizer = read_tokenizer(file.parent, config.vocab_size, gguf.name, gguf_file=file.name)
            model = plain(read_model(file.parent, config, gguf.name, gguf_file=file.name, dtype=torch.float32))
    except ComeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ComeError(
            f"{gguf.name} cannot be read as a language model ({reason_of(error)}).",
            "Choose a .gguf file of a supported family that Transformers reads, such as Llama or Qwen2.",
        ) from error
    if torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight):
        model.config.tie_word_embeddings = True  # the file has the same matrix twice
        model.tie_weights()
    return model, tokenizer


@cache
def _content(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a whole file: exports of two plans of one model differ in nothing but some layers in the middle."""
    del size, mtime_ns  # part of the cache's key only: a file may be written anew
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
