"""The command line that asks for the same as a request."""

from __future__ import annotations

import json
import shlex

from come.request import RunConfig


def command_line(request: RunConfig) -> str:
    """The command line that does the same as a request."""
    words = ["come", "run", "--model", request.model, "--method", request.method]
    if request.sparsity is not None:
        words += ["--sparsity", f"{request.sparsity:g}"]
    elif request.target_layers is not None:
        words += ["--target-layers", str(request.target_layers)]
    words += ["--text", request.text, "--tokens", str(request.n_tokens), "--seq-len", str(request.seq_len)]
    words += ["--seed", str(request.seed)]
    words += ["--bos", request.bos] if request.bos != RunConfig.model_fields["bos"].default else []
    for name, setting in request.options.items():
        words += ["--option", f"{name}={setting if isinstance(setting, str) else json.dumps(setting)}"]
    if request.evaluation_text:
        words += ["--evaluation-text", request.evaluation_text]
    if request.recover:
        words += ["--recover", ",".join(request.recover), "--recover-tokens", str(request.recover_tokens)]
        words += ["--recover-text", request.recover_text] if request.recover_text else []
        for name, setting in request.recover_options.items():
            value = setting if isinstance(setting, str) else json.dumps(setting)
            words += ["--recover-option", f"{name}={value}"]
    words += ["--evaluation-tokens", str(request.evaluation_tokens), "--evaluate", ",".join(request.evaluate) or "none"]
    if request.asks_questions:
        words += ["--tasks", ",".join(request.tasks)]
        words += ["--limit", str(request.task_limit)] if request.task_limit else []
    if not request.keep_model:
        words.append("--plan-only")
    elif request.save_dtype:
        words += ["--save-dtype", request.save_dtype]
    if request.name:
        words += ["--name", request.name]
    return shlex.join(words)
