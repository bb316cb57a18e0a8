"""Writing a model as one GGUF file, which llama.cpp, Ollama, LM Studio and others run; and Transformers reads back."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_VERSION, GGUFWriter, LlamaFileType
from gguf.utility import size_label

from come.errors import ComeError
from come.events import OnProgress, emit
from come.export import gguf_families, gguf_tensors, gguf_tokenizer
from come.export.folder import check_space, unwritable
from come.export.gguf_families import FOLDER_INSTEAD
from come.export.gguf_tensors import KINDS
from come.files import replacing
from come.models import FAMILIES, describe, load, shape_of
from come.models.source import hub_id
from come.plan.plan import Plan

_FILE_TYPES = {
    "float32": LlamaFileType.ALL_F32,
    "bfloat16": LlamaFileType.MOSTLY_BF16,
    "float16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}


def write_gguf(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    dtype: str = "float16",
    license: str = "",
    on_progress: OnProgress = None,
) -> Path:
    """Write a model as a GGUF file: what ``come.load`` makes of the folder, read back to see that the file holds it.

    The file appears whole or not at all. Norms and biases are float32 whatever the dtype, as readers expect.

    Args:
        folder: a model as ``come.load`` takes it; ``plan.json`` in it names the base model.
        path: the file to write; it must not exist yet.
        dtype: "float32", "bfloat16", "float16" or "q8_0" (float16 where rows are no multiple of 32 long).
        license: the base model's, as the hub spells it, such as "apache-2.0".
        on_progress: told of each tensor.

    Raises:
        ComeError: the folder is no model that loads; GGUF cannot hold the model's family, variant or tokenizer; there
            is such a file already; it cannot be written (no space, no permission), or holds other weights than the
            model when it is read back; or a weight is too large for float16.
    """
    folder, path = Path(folder).expanduser(), Path(path).expanduser()
    if dtype not in KINDS:
        raise ComeError(f"A GGUF file is not written in {dtype!r}.", f"Choose {', '.join(KINDS)}.")
    if path.exists():
        raise ComeError(f"{path} is there already.", "Choose a new name; nothing is overwritten.")
    _refuse_early(folder)
    bundle = load(folder, "cpu", on_progress=on_progress)
    config = bundle.model.config
    layout = gguf_families.layout_of(config)
    vocabulary = gguf_tokenizer.vocabulary_of(bundle.tokenizer, config.vocab_size)
    entries = gguf_tensors.entries_of(bundle, layout, dtype)
    check_space(path, sum(entry.nbytes for entry in entries))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            writer = GGUFWriter(temporary, layout.arch)
            try:
                _introduce(writer, folder, config, dtype, license, sum(math.prod(entry.shape) for entry in entries))
                gguf_families.describe_to(writer, config, layout)
                gguf_tokenizer.describe_to(writer, vocabulary)
                for entry in entries:
                    writer.add_tensor_info(entry.name, entry.shape, np.dtype("float32"), entry.nbytes, entry.kind)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                for number, entry in enumerate(entries, start=1):
                    emit(on_progress, "save", number, len(entries), f"Writing {path.name} in {dtype}")
                    writer.write_tensor_data(gguf_tensors.stored(entry))
            finally:
                writer.close()
            gguf_tensors.check(temporary, entries)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    return path


def _refuse_early(folder: Path) -> None:
    """Refuse a family that cannot be written before its weights are loaded."""
    model_type = describe(folder).model_type
    if model_type in FAMILIES and (reason := gguf_families.why_not(model_type)):
        raise ComeError(reason, FOLDER_INSTEAD)


def _introduce(writer: GGUFWriter, folder: Path, config: Any, dtype: str, license: str, parameters: int) -> None:
    """What the model is and where it comes from."""
    plan = Plan.read(folder / "plan.json") if (folder / "plan.json").is_file() else None
    source = plan.base.source if plan else folder.name
    base, layers = source.rstrip("/").rpartition("/")[2], shape_of(config).layers
    writer.add_type("model")
    writer.add_name(f"{base}, pruned to {layers} layers" if plan else base)
    writer.add_size_label(size_label(parameters, 0, 0, 0))
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_tags(["text-generation", "come", "layer-pruning"] if plan else ["text-generation"])
    if license:
        writer.add_license(license)
    if plan is None:
        return
    writer.add_description(
        f"Made with CoMe Lab (arXiv 2510.15304) from {base} by the method {plan.method}: {layers} of "
        f"{plan.base.layers} decoder layers are left. The license of the base model applies."
    )
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base)
    if on_hub := hub_id(source):
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{on_hub}")
