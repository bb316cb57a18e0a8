"""What readers older than Transformers 5 go by in a saved folder: the same settings once more, in words that they know.

Transformers 4, vLLM, mlx and llama.cpp's converter look for ``rope_theta``, ``torch_dtype`` or a tokenizer class of
their own time. Where they find none they take a default, and run another model without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from come.export.tokenizer_ends import adds_ends
from come.models.bundle import Bundle
from come.models.offload import weight_of

TRIED = "4.55.4"
"""The older Transformers that read models of every family with the logits of the newer: scripts/old_readers.py."""

# Their configs take a scaling's own fields alone, and its kind by the oldest name.
_STRICT = ("olmo2", "phi3")
# Classes that came with Transformers 5. What they do is told by tokenizer.json, which the plain fast class reads.
_NEW_CLASSES = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend", "MistralCommonBackend")
_PLAIN = "PreTrainedTokenizerFast"


def write_for_older_readers(folder: Path, bundle: Bundle) -> None:
    """Add to the config.json and tokenizer_config.json of a folder what older readers look for.

    Transformers 5 makes the same of the folder as before.

    Args:
        folder: where ``save_pretrained`` wrote the model, in whatever dtype, and its tokenizer.
        bundle: the model.
    """
    told = json.loads((folder / "config.json").read_text("utf-8"))
    entries = {"torch_dtype": told["dtype"], "tie_word_embeddings": _head_is_embeddings(bundle)}
    _rewrite(folder / "config.json", entries | dict(_rope_entries(told)))
    _write_tokenizer(folder, bundle.tokenizer)


def _head_is_embeddings(bundle: Bundle) -> bool:
    """Whether a model's head is its embeddings: whatever its config says, Transformers 5 keeps a head of its own."""
    paths = (bundle.family.head, bundle.family.embeddings[0])
    head, embeddings = (weight_of(bundle.model.get_submodule(path), "weight") for path in paths)
    assert head is not None and embeddings is not None
    return torch.equal(head.cpu(), embeddings.cpu())


def _rope_entries(told: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What ``rope_parameters`` of a config says, as entries of their own."""
    parameters = told.get("rope_parameters") or {}
    by_kind = "full_attention" in parameters
    whole = parameters["full_attention"] if by_kind else parameters
    if "rope_theta" not in whole:
        return
    yield "rope_theta", whole["rope_theta"]
    if by_kind:
        yield "rope_local_base_freq", parameters["sliding_attention"]["rope_theta"]
    share = whole.get("partial_rotary_factor")
    if share is not None:
        yield "partial_rotary_factor", share
    if told["model_type"] == "gpt_neox":
        yield "rotary_emb_base", whole["rope_theta"]
        yield "rotary_pct", share
    if (kind := whole.get("rope_type", "default")) != "default":
        elsewhere = {"rope_theta", "partial_rotary_factor", "rope_type", "type"}
        elsewhere |= {"original_max_position_embeddings"} & set(told)
        own = {name: value for name, value in whole.items() if name not in elsewhere}
        yield "rope_scaling", {"type" if told["model_type"] in _STRICT else "rope_type": kind, **own}


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text("utf-8"))
    begins, ends = adds_ends(tokenizer)
    entries: dict[str, Any] = {"add_bos_token": begins, "add_eos_token": ends}
    if isinstance(told.get("extra_special_tokens"), list):  # a name that Transformers 4 keeps for something else
        entries |= {"extra_special_tokens": None, "additional_special_tokens": told["extra_special_tokens"]}
    own = told["tokenizer_class"]
    old = [name for name in (_declared_class(tokenizer), own) if name and name not in _NEW_CLASSES] + [_PLAIN]
    for name in dict.fromkeys((*old, own)):
        _rewrite(path, {**entries, "tokenizer_class": name})
        if _reads_back(folder, tokenizer):
            return
    _rewrite(path, {**entries, "tokenizer_class": old[0]})  # Transformers 5 goes by the model's family then


def _declared_class(tokenizer: Any) -> str | None:
    """The class that the source's own tokenizer_config.json names."""
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    if not tokenizer.name_or_path:
        return None
    try:
        told: str | None = get_tokenizer_config(tokenizer.name_or_path, local_files_only=True).get("tokenizer_class")
    except (OSError, ValueError):  # where it was, there is nothing any more
        return None
    return told


def _reads_back(folder: Path, tokenizer: Any) -> bool:
    """Whether Transformers makes the same tokenizer of a folder."""
    from come.models.auto import AutoTokenizer

    try:
        again = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # whatever a class makes of files that are not its own
        return False
    return bool(_what_it_does(again) == _what_it_does(tokenizer))


def _what_it_does(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return type(tokenizer)
    document = json.loads(backend.to_str())
    return {name: part for name, part in document.items() if name not in ("padding", "truncation")}


def _rewrite(path: Path, entries: dict[str, Any]) -> None:
    """Change entries of a file of JSON; those that are None go."""
    told = json.loads(path.read_text("utf-8")) | entries
    told = {name: value for name, value in told.items() if value is not None or name not in entries}
    path.write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
