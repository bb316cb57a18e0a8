"""Adapters, such as LoRA, as peft saves them: merged into their base model when that is loaded."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from come.errors import ComeError, reason_of
from come.models.adapter_options import name_modules, refuse_outsized
from come.models.checkpoint import count, in_order, whole
from come.models.offload import is_offloaded
from come.models.safetensors_header import header_of
from come.models.small_files import read_small_json
from come.models.source import ADAPTER

_WEIGHTS = "adapter_model.safetensors"
_MERGE = "Merge it where it was trained, with peft's merge_and_unload, and load what that saves."
_BASE = "Let base_model_name_or_path in its adapter_config.json name the model that it was trained on."


def merged(model: Any, folder: Path) -> Any:
    """The model with an adapter merged into its weights: plain, of the same class.

    Args:
        model: the adapter's base model; it is changed.
        folder: the adapter's.

    Raises:
        ComeError: peft cannot read or merge the adapter, or its weights are not those of an adapter of this model.
    """
    if is_offloaded(model):
        raise ComeError(
            f"The adapter {folder} cannot be merged into a model that lies partly outside of memory.", _MERGE
        )
    plain = _adapted(model, folder).merge_and_unload()
    return plain.requires_grad_(True).eval()


def refuse_misfit(empty: Any, folder: Path) -> None:
    """Refuse an adapter that ``merged`` would refuse, before its base model's weights are read.

    Args:
        empty: the base model on the "meta" device; it is changed, and of no further use.
        folder: the adapter's.

    Raises:
        ComeError: as ``merged``.
    """
    _adapted(empty, folder)


def _adapted(model: Any, folder: Path) -> Any:
    """The model with an adapter on it, as peft has it."""
    from peft import PeftConfig, PeftType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from safetensors.torch import load_file

    from come.models.auto import quiet

    file, told = weights_of(folder), read_small_json(folder / ADAPTER)
    refuse_outsized(told, header_of(file), folder)
    kind = str(told.get("peft_type"))
    if kind in PeftType.__members__ and not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType[kind]), "merge_and_unload"):
        raise ComeError(f"The adapter {folder} is of the kind {kind}, which is no change of weights.", "Load its base.")
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft warns of is refused below, or wanted
            weights = load_file(file)
            config = PeftConfig.from_pretrained(str(folder))
            _refuse_unknown_options(config, told, folder)
            name_modules(config, (name for name, _ in model.named_modules()), folder)
            adapted = get_peft_model(model, config)
            wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
            report: Any = set_peft_model_state_dict(adapted, weights)
    except ComeError:
        raise
    except Exception as error:  # of a kind that depends on what is wrong with the adapter
        raise ComeError(f"The adapter {folder} does not fit its base model ({reason_of(error)}).", _BASE) from error
    if missing := in_order({*wanted} - {*weights}):
        raise ComeError(f"The adapter {folder} lacks {count(missing)}, the first: {missing[0]}.", _BASE)
    if unexpected := in_order(report.unexpected_keys):
        raise ComeError(
            f"The adapter {folder} holds {count(unexpected)} that its base model has no place for, the first: "
            f"{unexpected[0]}.",
            _BASE,
        )
    if shared := _changes_what_is_shared(model, weights):
        raise ComeError(
            f"The adapter {folder} changes {shared}, whose matrix its base model uses twice (tied embeddings).", _MERGE
        )
    return adapted


def weights_of(folder: Path) -> Path:
    """The file of an adapter's weights.

    Raises:
        ComeError: there is none, or it is cut short.
    """
    if not (folder / _WEIGHTS).is_file():
        raise ComeError(
            f"The adapter {folder} has no {_WEIGHTS}, and pickled weights are not loaded.",
            "Save it again with peft's save_pretrained.",
        )
    return whole(folder / _WEIGHTS)


def _refuse_unknown_options(config: Any, told: Mapping[str, Any], folder: Path) -> None:
    """Refuse what peft only warns of: an option that it does not know may change what the adapter computes."""
    known = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(name for name, value in told.items() if value and name not in known):
        raise ComeError(
            f"The adapter {folder} has an option that the installed peft does not know ({unknown[0]}).", _MERGE
        )


def _changes_what_is_shared(model: Any, weights: dict[str, Any]) -> str:
    """The module among those that share a matrix which an adapter changes; "" where it leaves them alone."""
    tied = [name for pair in model.all_tied_weights_keys.items() for name in pair]
    modules = [name.rpartition(".")[0] for name in tied]
    return next((module for module in modules if any(f".{module}." in name for name in weights)), "")
