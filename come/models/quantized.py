"""Quantized checkpoints: loaded with their weights in full where Transformers can do that here, else refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from come.errors import ComeError, reason_of
from come.models.checkpoint import MADE_ANEW, count, in_order, stored
from come.models.plausible import RIGHT

DTYPE = torch.bfloat16
"""What quantized weights are unpacked to, where no dtype is asked for."""

_INSTEAD = "Choose the model that it was made from, in bfloat16 or float16."
_FLOATS_OF_8_BITS = {"F8_E4M3", "F8_E5M2"}
_FLOATS = {"F64", "F32", "F16", "BF16"} | _FLOATS_OF_8_BITS
_MARKS = ("hf_quantizer", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")


def method_of(config: Any) -> str:
    """How a model's weights are quantized, as its config names it ("fp8", "gptq"); "" where they are not."""
    told = _told(config)
    if told.get("load_in_4bit") or told.get("load_in_8bit"):
        return "bitsandbytes"
    return str(getattr(told.get("quant_method"), "value", told.get("quant_method")) or "unnamed") if told else ""


def ask_for_full_weights(config: Any) -> None:
    """Have a quantized model's config, which is changed, say that its weights are unpacked as they are read.

    Some methods unpack only what has been read: ``unpack`` sees to both.

    Raises:
        ComeError: Transformers cannot give the model's weights in full, at all or on this machine.
    """
    method = method_of(config)
    if not method:
        return
    from transformers.quantizers.auto import (
        AUTO_QUANTIZATION_CONFIG_MAPPING,
        AUTO_QUANTIZER_MAPPING,
        AutoHfQuantizer,
        HfQuantizer,
    )

    told = _told(config)
    key = f"bitsandbytes_{'4' if told.get('load_in_4bit') else '8'}bit" if method == "bitsandbytes" else method
    if key not in AUTO_QUANTIZER_MAPPING:
        raise ComeError(f"The model is quantized in a way that Transformers does not know ({method}).", _INSTEAD)
    at_load = "dequantize" in inspect.signature(AUTO_QUANTIZATION_CONFIG_MAPPING[key].__init__).parameters
    afterwards = AUTO_QUANTIZER_MAPPING[key]._dequantize is not HfQuantizer._dequantize
    if not (at_load or afterwards):
        raise ComeError(
            f"The model is quantized ({method}), and Transformers cannot give its weights in full.",
            _INSTEAD,
        )
    wanted = {**told, "dequantize": True} if at_load else told
    try:
        AutoHfQuantizer.from_config(dict(wanted), pre_quantized=True).validate_environment(
            device_map=None, weights_only=True
        )
    except Exception as error:  # each method raises what it likes where a package or a device is missing
        raise ComeError(
            f"The model is quantized ({method}), and its weights cannot be unpacked on this machine: "
            f"{reason_of(error)}.",
            _INSTEAD,
        ) from error
    config.quantization_config = wanted


def refuse_unreadable(folder: Path, config: Any, name: str) -> None:
    """Refuse packed weights in a folder that Transformers would take for something else.

    Args:
        folder: the model's.
        config: its config.
        name: what it is called in the sentence.

    Raises:
        ComeError: the config does not tell of them, 8-bit floats or whole numbers; or blocks of theirs are cut off at
            an edge, which Transformers divides into equal blocks instead.
    """
    told, weights = _told(config), stored(folder)
    packed = eight_bit_floats(weights)
    if packed and not told:
        raise _no_scales(name, packed)
    others = {
        each: dtype for each, (dtype, _) in weights.items() if dtype not in _FLOATS and not MADE_ANEW.search(each)
    }
    if others and not told:
        first = in_order(others)[0]
        raise ComeError(
            f"{name} holds {count(others)} that are no floats ({others[first]}), the first: {first}, and its config "
            "says nothing of quantization.",
            f"They cannot be unpacked. {_INSTEAD}",
        )
    block = told.get("weight_block_size") or ()
    for each in packed:
        _, shape = weights[each]
        _, scales = weights.get(f"{each}_scale_inv", ("", ()))
        if len(scales) == len(block) and any(
            blocks > 1 and length % size for length, size, blocks in zip(shape, block, scales, strict=True)
        ):
            raise ComeError(
                f"{name} holds {each} {shape} in blocks of {tuple(block)} that do not divide it, which Transformers "
                "unpacks wrongly.",
                _INSTEAD,
            )


def eight_bit_floats(weights: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """The names of those weights of a folder (``stored``) that are 8-bit floats."""
    return [each for each, (dtype, _) in weights.items() if dtype in _FLOATS_OF_8_BITS]


def refuse_packed(model: Any, name: str) -> None:
    """Refuse a model some of whose weights Transformers has left as 8-bit floats.

    Raises:
        ComeError: it has; their scales are missing.
    """
    weights = ((each, weight.dtype) for each, weight in model.named_parameters())
    if packed := [each for each, dtype in weights if dtype.is_floating_point and dtype.itemsize == 1]:
        raise _no_scales(name, packed)


def unpack(model: Any) -> Any:
    """A model that was just loaded: with its weights in full, in the dtype asked for, and without a mark of packing."""
    dtype = model.config.dtype
    if getattr(model, "is_quantized", False):
        model = model.dequantize(dtype)
    for parameter in model.parameters():  # not model.to: rotary frequencies stay in float32
        parameter.data = parameter.data.to(dtype)
    return plain(model)


def plain(model: Any) -> Any:
    """The model without the marks of quantization, while it has which ``save_pretrained`` would pack or refuse it."""
    for mark in _MARKS:
        if hasattr(model, mark):
            delattr(model, mark)
    model.is_quantized = False
    model._weight_conversions = None  # which would be undone on saving: FP8 values without their scales
    for config in (model.config, getattr(model.config, "text_config", None)):
        for name in ("quantization_config", "_is_quantized"):
            if hasattr(config, name):
                delattr(config, name)
    return model


def _no_scales(name: str, packed: Sequence[str]) -> ComeError:
    return ComeError(
        f"{name} holds {count(packed)} in 8 bits without their scales, the first: {in_order(packed)[0]}.",
        f"They cannot be unpacked. {_INSTEAD}",
    )


def _told(config: Any) -> dict[str, Any]:
    """What a config says of quantization; nothing where it says nothing."""
    told = getattr(config, "quantization_config", None)
    if told is None or isinstance(told, Mapping):
        return dict(told or {})
    if not hasattr(told, "to_dict"):
        raise ComeError(
            f"The config's quantization_config is {str(told)[:80]!r}, and no description of a method.",
            RIGHT,
        )
    return dict(told.to_dict())
