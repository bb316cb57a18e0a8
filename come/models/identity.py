"""What tells one model from another: its weights, its configuration, its tokenizer."""

from __future__ import annotations

import hashlib
import json

from come.models.bundle import Bundle

SAYS_NOTHING = ("_name_or_path", "transformers_version", "architectures")  # of what a model computes


def identity(bundle: Bundle) -> tuple[str, str, str]:
    """The key of a model: hashes of its weights, its configuration and its tokenizer.

    The weights are not enough: with another rope scaling the same ones are another model.
    """
    config = {name: each for name, each in bundle.model.config.to_dict().items() if name not in SAYS_NOTHING}
    backend = getattr(bundle.tokenizer, "backend_tokenizer", None)
    tokenizer = backend.to_str() if backend is not None else repr(sorted(bundle.tokenizer.get_vocab().items()))
    return bundle.fingerprint, _hash(json.dumps(config, sort_keys=True, default=str)), _hash(tokenizer)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
