"""Do readers of other versions make the same of what is saved? .venv/bin/python -m scripts.old_readers PYTHON

PYTHON is the interpreter of an environment of its own, such as

    python3 -m venv old && old/bin/pip install transformers==4.55.4 torch gguf xllamacpp

Small random models of every family and of many kinds (`scripts/reader_cases.py`) are pruned, recovered, saved as a
folder and, where that can be, as GGUF. Transformers as it is here, and what PYTHON has, then read them
(`scripts/read_saved.py`): logits and tokens have to be the same. Prints a table, of which docs/compatibility.md is the
sum; the exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.utils import logging

import come
from come.errors import ComeError
from come.export.gguf_families import LAYOUTS, context_length
from come.export.gguf_write import write_gguf
from come.models import FAMILIES, Bundle
from scripts.reader_cases import BUNDLED, TOKENIZERS, Case, cases
from tests.ggufs import TEXT, gguf_folder
from tests.tiny import tiny_tokens

READER = Path(__file__).with_name("read_saved.py")
CLOSE = {"model": 1e-4, "llama_cpp": 5e-3}  # llama.cpp takes GELU from a table of half precision
LOAD, SAVE, GGUF = "load", "prune, recover, save", "GGUF"
YES, NO = "yes", "NO: "


def main() -> None:
    """Make the models, read them, print the tables."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("python", help="the interpreter of the other environment")
    asked.add_argument("--only", default="", help="only cases whose name holds this")
    asked.add_argument("--bundled", action="store_true", help="the bundled model as well, which takes a minute or two")
    asked.add_argument("--keep", type=Path, help="a new folder to leave the models in")
    options = asked.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        parent = options.keep or Path(temporary)
        os.environ["COME_HOME"] = str(Path(temporary) / "home")
        chosen = [case for case in (*cases(), *([BUNDLED] if options.bundled else [])) if options.only in case.name]
        if not chosen:
            sys.exit(f"No case has {options.only} in its name.")
        made = {case.name: (case, make(case, parent / case.name)) for case in chosen}
        saved = [name for name, (_, said) in made.items() if said.get(SAVE) == YES]
        readings = [read(python, parent, saved) for python in (sys.executable, options.python)]
    for versions, _ in readings:
        print("Read by", ", ".join(f"{name} {number}" for name, number in versions.items() if number), end=".\n\n")
    heads = ("family", "model", LOAD, SAVE, *(f"Transformers {versions['transformers']}" for versions, _ in readings))
    print("|", " | ".join((*heads, GGUF, "llama.cpp")), "|\n" + "|---" * (len(heads) + 2) + "|")
    wrong = 0
    for name, (case, said) in made.items():
        new, old = (found.get(name, {}) for _, found in readings)
        read_back = (_cell(new, "model", "tokenizer"), _cell(old, "model", "tokenizer"))
        gguf = said.get(GGUF, "") if said.get(GGUF) != YES else _cell(new, "gguf")
        cells = (said[LOAD], said.get(SAVE, ""), *read_back, gguf, _cell(old, "llama_cpp"))
        wrong += any(cell.startswith(NO) for cell in cells)
        print("|", " | ".join((FAMILIES[case.family.partition(":")[0]].title, case.title, *cells)), "|", flush=True)
    sys.exit(f"{wrong} of {len(made)} are read otherwise." if wrong else None)


def make(case: Case, folder: Path) -> dict[str, str]:
    """Load, prune, recover and save a case, as a folder and as GGUF, with what readers have to make of it.

    Returns:
        By step, "yes" or the sentence that ends it.
    """
    kind = case.tokenizer or TOKENIZERS.get(case.family.partition(":")[0], "gpt-2")
    source = gguf_folder(folder / "source", case.family, kind, layers=6, **case.changes)
    step, said, tokens = LOAD, dict[str, str](), tiny_tokens(6, 32)
    try:
        bundle = come.load(case.prepare(source) or source if case.prepare else source, "cpu")
        said[step], step = YES, SAVE
        pruned = come.compress(bundle, tokens, target_layers=len(bundle.layers) - 2).bundle
        pruned = come.recover(pruned, bundle, tokens, "refit", control=True).bundle
        come.save(pruned, folder / "model")
        _expect(pruned, folder)
        said[step], step = YES, GGUF
        write_gguf(folder / "model", folder / "model.gguf", "float32")
        said[step] = YES
    except ComeError as error:
        said[step] = error.what
    except Exception as error:  # one that fails is a line of the table, and the others are tried
        said[step] = f"{NO}{type(error).__name__}: {error}"
    return said


def _expect(bundle: Bundle, folder: Path) -> None:
    """Write down what a reader has to find."""
    tokenizer, model = bundle.tokenizer, copy.deepcopy(bundle.model).float()
    ids = tokenizer(TEXT).input_ids
    layout = LAYOUTS.get(model.config.model_type)
    prompt = ids[: context_length(model.config, layout) - 1] if layout else ids  # readers of GGUF take no more
    tokens = tiny_tokens(2, 200)
    with torch.inference_mode():
        save_file({"tokens": tokens, "logits": model(tokens).logits}, folder / "expected.safetensors")
        last = model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)
    told = {
        "text": TEXT,
        "ids": ids,
        "prompt": prompt,
        "chat_template": tokenizer.chat_template,
        **{f"{name}_token": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
        "log_probabilities": last.tolist(),
        "layers": len(bundle.layers),
        "parameters": sum(parameter.numel() for parameter in bundle.model.parameters()),
        "soft_cap": getattr(model.config, "attn_logit_softcapping", None) is not None,
    }
    (folder / "expected.json").write_text(json.dumps(told), "utf-8")


def read(python: str, parent: Path, names: list[str]) -> tuple[dict[str, str | None], dict[str, dict[str, Any]]]:
    """What an interpreter makes of the saved models: its versions, and by name what it found."""
    command = [python, str(READER), *(str(parent / name) for name in names)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=clean, cwd=parent)
    versions, *found = map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines()))
    return versions, {each["case"]: each for each in found}


def _cell(found: dict[str, Any], *parts: str) -> str:
    for part in parts:
        told = found.get(part)
        if told is None:
            return ""
        if told.get("wrong") or not told.get("off", 0.0) <= CLOSE.get(part, 0.0):
            return f"{NO}{part}: {told.get('wrong') or 'logits are off by {:.2g}'.format(told['off'])}"
    return YES


if __name__ == "__main__":
    main()
