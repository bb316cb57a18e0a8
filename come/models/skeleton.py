"""A model without its weights, from its config and the headers of its files; and all that loading it would refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from come.errors import ComeError, reason_of
from come.models.adapter import refuse_misfit
from come.models.checkpoint import hold_apart, stored
from come.models.family import Family
from come.models.plausible import RIGHT
from come.models.quantized import ask_for_full_weights, eight_bit_floats, method_of, refuse_unreadable
from come.models.source import Source, readable
from come.models.strict import read_model
from come.models.tokenizer import read_tokenizer


def skeleton(origin: Source, where: str, config: Any, family: Family) -> Any:
    """A model on the "meta" device: every parameter has its shape, and no storage.

    What is on the hub is not fetched for this: then the config alone is gone by.

    Args:
        origin: the model's place.
        where: what ``to_read_from`` says of it.
        config: its config. It is changed to say what is so: that a quantized model is unpacked, that a head is apart.
        family: where its parts are.

    Raises:
        ComeError: its files are not those of the model that its config describes, or cannot be read at all; or its
            adapter does not fit it.
    """
    empty = _without_weights(origin, where, config, family)
    if origin.adapter:
        refuse_misfit(empty_model(config), Path(origin.adapter))
    return empty


def _without_weights(origin: Source, where: str, config: Any, family: Family) -> Any:
    from come.models.auto import quiet

    ask_for_full_weights(config)
    if not os.path.isdir(where):
        return empty_model(config)
    with readable(origin), quiet():
        refuse_unreadable(Path(where), config, origin.name)
        if method_of(config) == "fp8" and not eight_bit_floats(stored(Path(where))):
            del config.quantization_config  # as a fine-tune in full may leave it behind
        if method_of(config) not in ("", "fp8"):  # whose headers do not tell the shapes
            return empty_model(config)
        if config.tie_word_embeddings:
            apart = hold_apart(Path(where), f"{family.embeddings[0]}.weight", f"{family.head}.weight")
            config.tie_word_embeddings = not apart
        model = read_model(where, config, origin.name, device_map="meta")
    model.tie_weights()  # by the config: files that hold a tied matrix twice hold it once here
    return model


def empty_model(config: Any) -> Any:
    """A model on the "meta" device, from its config alone.

    Raises:
        ComeError: Transformers cannot make one of it.
    """
    from come.models.auto import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # each architecture raises what it likes where its config contradicts itself
        raise ComeError(
            f"No model can be made of its config ({reason_of(error)}).",
            RIGHT,
        ) from error
    model.tie_weights()
    return model


def tokenizer_of(origin: Source, where: str, config: Any) -> Any:
    """A model's tokenizer: that of its adapter, where one with a tokenizer is merged into it, else its own.

    Raises:
        ComeError: there is none, or it does not go with the model.
    """
    theirs = Path(origin.adapter)
    if origin.adapter and any((theirs / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        where = origin.adapter
    with readable(origin):
        return read_tokenizer(where, config.vocab_size, origin.name, config=config)
