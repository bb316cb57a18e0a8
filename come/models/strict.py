"""The one way a model is read here: no weight is made up or dropped, and nothing that its files ask for is run."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from come.errors import ComeError
from come.models.checkpoint import MADE_ANEW, count, in_order, places_of, read_tensor
from come.models.offload import saved_tensors
from come.models.quantized import refuse_packed
from come.models.safetensors_header import AGAIN
from come.models.source import ADAPTER, Source, read_config
from come.models.text_tower import NAMES, is_of_another_part, wrapper_at

# Transformers attaches an adapter that lies beside a model, unless it is told to look for it where none can be.
_NO_ADAPTER = {"subfolder": ".no-adapter"}


def read_model(where: str | Path, config: Any, name: str, **how: Any) -> Any:
    """A causal language model, exactly as its files and its config describe it.

    Args:
        where: a folder, or a hub id.
        config: its Transformers config.
        name: what it is called in a sentence.
        how: more for ``from_pretrained``; with ``device_map="meta"`` nothing but the headers of the files is read.

    Raises:
        ComeError: the files lack weights that the config calls for, have others, or have some of another shape.
    """
    from come.models.auto import AutoModelForCausalLM

    wrapped = "gguf_file" not in how and wrapper_at(where)
    model, report = AutoModelForCausalLM.from_pretrained(
        where,
        config=config,
        trust_remote_code=False,
        use_safetensors=True,
        adapter_kwargs=_NO_ADAPTER,
        ignore_mismatched_sizes=True,  # refused below, in one sentence
        output_loading_info=True,
        **({"key_mapping": NAMES} if wrapped else {}),
        **how,
    )
    if wrapped:
        report["unexpected_keys"] = [each for each in report["unexpected_keys"] if not is_of_another_part(each)]
        model._weight_conversions = None  # which would be undone on saving: the wrapper's names
    saved_as = str((getattr(config, "architectures", None) or [""])[0])
    refuse_gaps(report, name, saved_as)
    refuse_packed(model, name)
    if model.config.tie_word_embeddings and not model.all_tied_weights_keys:
        model.config.tie_word_embeddings = False  # the files have a head of its own, which Transformers keeps
    return model


def refuse_gaps(report: Mapping[str, Any], name: str, saved_as: str = "") -> None:
    """Refuse what Transformers only reports: weights of a model that were made up, left out or put aside.

    Args:
        report: its ``output_loading_info``.
        name: what the model is called in the sentence.
        saved_as: the class that the model was saved as, where its config tells.

    Raises:
        ComeError: there is such a weight; how many there are, and the first of them.
    """
    missing = in_order(report["missing_keys"])
    if prefix := _prefix(missing, report["unexpected_keys"]):
        raise ComeError(
            f"{name} puts {prefix!r} before the names of its weights, as training tools do: they are not found.",
            "Save the model inside again, alone, with save_pretrained.",
        )
    if missing:
        other = "" if re.search(r"CausalLM|LMHead|^$", saved_as) else f" It was saved as {saved_as}."
        raise ComeError(
            f"{name} lacks {count(missing)} that its config calls for, the first: {missing[0]}.{other}",
            "Choose a language model." if other else f"They would be random. {AGAIN}",
        )
    if unexpected := [each for each in in_order(report["unexpected_keys"]) if not MADE_ANEW.search(each)]:
        raise ComeError(
            f"{name} holds {count(unexpected)} that its config has no place for, the first: {unexpected[0]}.",
            "Without them it is another model. Put its config right, or choose the model as it was saved.",
        )
    if mismatched := sorted(report["mismatched_keys"], key=str):
        weight, found, wanted = mismatched[0]
        raise ComeError(
            f"{name} holds {count(mismatched)} of another shape than its config says, the first: {weight}, which is "
            f"{tuple(found)} and not {tuple(wanted)}.",
            f"Put its config right. Or: {AGAIN[0].lower()}{AGAIN[1:]}",
        )
    if errors := list(report.get("error_msgs") or []):
        raise ComeError(f"{name} cannot be read as a model ({errors[0]}).", AGAIN)


def _prefix(missing: Container[str], unexpected: Iterable[str]) -> str:
    """What stands before the name of a weight that is missing in that of one that has no place; "" where none does."""
    for name in unexpected:
        parts = name.split(".")
        for place in range(1, len(parts) - 1):  # one part alone, such as "weight", is no name
            if ".".join(parts[place:]) in missing:
                return ".".join(parts[:place]) + "."
    return ""


def refuse_another(folder: Path, model: Any) -> None:
    """Read again what was written of a model: the same weights, bit for bit, and no others.

    Args:
        folder: where ``save_pretrained`` wrote it.
        model: the model in memory.

    Raises:
        ComeError: it is not what it should be.
    """
    try:
        if (folder / ADAPTER).is_file():
            raise ComeError("It is an adapter without its model.")
        read_model(folder, read_config(Source("folder", str(folder))), "It", device_map="meta")
    except ComeError as error:
        raise _badly_written(error.what) from error
    places = places_of(folder)
    for name, mine in saved_tensors(model):
        if name in places and not _same(read_tensor(places[name], name), mine):
            raise _badly_written(f"The weight {name} is not as it was in memory.")


def _same(first: Tensor, second: Tensor) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    one, other = (each.detach().cpu().reshape(-1).view(uint8) for each in (first, second))
    return bool((one == other).all())


def _badly_written(reason: str) -> ComeError:
    return ComeError(
        f"The model that was written reads back as another one: {reason[0].lower()}{reason[1:]}",
        "Nothing was kept. Please report this.",
    )
