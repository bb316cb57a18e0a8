"""What tells one model from another: its weights, its configuration, its tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from come.models.bundle import Bundle

SAYS_NOTHING = ("_name_or_path", "transformers_version", "architectures")  # of what a model computes


def identity(bundle: Bundle) -> tuple[str, str, str]:
    """The key of a model: hashes of its weights, its configuration and its tokenizer.

    The weights are not enough: with another rope scaling the same ones are another model.
    """
    backend = getattr(bundle.tokenizer, "backend_tokenizer", None)
    tokenizer = backend.to_str() if backend is not None else repr(sorted(bundle.tokenizer.get_vocab().items()))
    return bundle.fingerprint, config_hash(bundle.model.config.to_dict()), _hash(tokenizer)


def config_hash(config: Mapping[str, Any]) -> str:
    """The identity of a model's configuration: its shape, and how it computes."""
    told = {name: each for name, each in config.items() if name not in SAYS_NOTHING}
    return _hash(json.dumps(told, sort_keys=True, default=str))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
