"""Does a run's model reload in plain Transformers? Tried in a process that uses nothing of this project for it."""

from __future__ import annotations

import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.runs.run import MODEL, Run
from come.serving import limits, pack, side_jobs
from come.serving.side_jobs import SideJob

FILE = side_jobs.RELOAD
PROMPT = "The capital of France is"


def start(run: Run) -> None:
    """Start the check in a process of its own; ``reloaded`` tells how it stands.

    Raises:
        ComeError: the run has not ended well, or keeps no model.
    """
    _place(run)
    side_jobs.start(run, "come.serving.reload_check", run.path / FILE, most=limits.current().downloads_each)


def reloaded(run: Run) -> SideJob:
    """How the check of a run stands; its values say what was found."""
    return side_jobs.read(run.path / FILE)


def check(folder: Path) -> dict[str, Any]:
    """Load a folder by ``AutoModelForCausalLM`` and ``AutoTokenizer``, and predict the next token of a sentence.

    Returns:
        layers, parameters, dtype, tokens of the prompt, the next token, and the versions it was tried with.

    Raises:
        ComeError: it does not load, weights are missing or left over, or what it predicts is not finite.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began = time.time()
    try:
        # Never code or files from elsewhere: the folder alone has to do.
        plain: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True, **plain)
        tokenizer = AutoTokenizer.from_pretrained(folder, **plain)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ComeError("Transformers cannot load this model.", reason) from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := list(report.get(kind) or []):
            raise ComeError(f"{len(names)} weights of this model are {kind.split('_')[0]}.", f"The first: {names[0]}.")
    loaded = time.time()
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, -1].float()
    if not bool(torch.isfinite(logits).all()):
        raise ComeError("The reloaded model predicts no finite numbers.", "Save it in float32 instead.")
    return {
        "layers": int(model.config.num_hidden_layers),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "prompt": PROMPT,
        "tokens": int(ids.shape[1]),
        "next": tokenizer.decode([int(logits.argmax())]),
        "load_seconds": round(loaded - began, 2),
        "forward_seconds": round(time.time() - loaded, 2),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def _place(run: Run) -> Path:
    """What can be reloaded: the model's folder, else the newest packed model."""
    if (run.path / MODEL / "config.json").is_file():
        return run.path / MODEL
    packed = [found.file for dtype in pack.DTYPES if (found := pack.packed(run, dtype)).file is not None]
    newest = max((file for file in packed if file), key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ComeError(f"The run {run.id} keeps no model.", "Make the model first.")
    return newest


def _job(run: Run, tell: Callable[[str], None]) -> dict[str, Any]:
    place = _place(run)
    if place.is_dir():
        tell("Loading the folder in plain Transformers")
        return {**check(place), "checked": place.name}
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".reload-") as temporary:
        tell("Unpacking the file that you download")
        with zipfile.ZipFile(place) as packed:
            packed.extractall(temporary)
        tell("Loading it in plain Transformers")
        return {**check(next(path.parent for path in Path(temporary).rglob("config.json"))), "checked": place.name}


def main() -> None:
    """``python -m come.serving.reload_check RUN``."""
    run = Run(Path(sys.argv[1]))
    side_jobs.work(run, run.path / FILE, lambda tell: _job(run, tell))


if __name__ == "__main__":
    main()
