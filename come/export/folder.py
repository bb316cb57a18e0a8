"""Saving a model as a plain Transformers folder, with a card that says how it was made."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from come.errors import ComeError
from come.export.card import model_card
from come.export.older_readers import write_for_older_readers
from come.files import disk_sentence, human_bytes
from come.models.bundle import Bundle
from come.models.depth import share
from come.models.load import torch_dtype
from come.models.offload import is_offloaded
from come.models.strict import refuse_another


def save(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    dtype: str | torch.dtype | None = None,
    results: dict[str, Any] | None = None,
) -> Path:
    """Write a folder that plain Transformers loads: weights, config, tokenizer, plan.json where there is one, card.

    The folder appears whole or not at all, and only after it was read again and compared with the model bit for bit;
    the bundle is not changed.

    Args:
        bundle: the model to save.
        folder: where to; it must not exist yet, or be empty.
        dtype: the dtype to store the weights in; the model's own by default.
        results: numbers for the card, as a run's results.json has them.

    Raises:
        ComeError: the folder holds something already, or cannot be written (no space, no permission), or what was
            written is not the model.
    """
    from come.models.auto import quiet

    folder = Path(folder).expanduser()
    wanted = bundle.dtype if dtype is None or dtype == "auto" else torch_dtype(dtype)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ComeError(f"{folder} is not empty.", "Choose a new folder; nothing is overwritten.")
    if wanted != bundle.dtype and is_offloaded(bundle.model):
        raise ComeError(
            "A model that lies partly outside of memory is saved in its own dtype only.",
            f"Load it in {str(wanted).removeprefix('torch.')} instead.",
        )
    check_space(folder, bundle.parameters * torch.empty(0, dtype=wanted).element_size())  # type: ignore[arg-type]
    model = bundle.model if wanted == bundle.dtype else _cast(bundle.model, wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            written = Path(temporary) / "model"
            with quiet():
                model.save_pretrained(written)
            bundle.tokenizer.save_pretrained(written)
            write_for_older_readers(written, bundle)
            if bundle.plan is not None:
                bundle.plan.write(written / "plan.json")
            (written / "README.md").write_text(model_card(bundle, results), encoding="utf-8")
            with quiet():
                refuse_another(written, model)
            if folder.exists():
                folder.rmdir()
            written.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    except Exception as error:  # safetensors reports what the disk refuses in a class of its own
        if (told := disk_sentence(error, folder)) is not None:
            raise told from error
        raise
    return folder


def _cast(model: Any, dtype: Any) -> Any:
    """The model in another dtype, on tensors of its own; what was tied stays tied, and nothing else."""
    copy = share(model)
    cast: dict[int, torch.nn.Parameter] = {}
    for module in copy.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in cast:
                cast[id(parameter)] = torch.nn.Parameter(held_in(parameter.detach(), dtype), parameter.requires_grad)
            module._parameters[name] = cast[id(parameter)]
    copy.config.dtype = dtype
    return copy


def refuse_unheld(model: Any, dtype: str | None) -> None:
    """Refuse to save a model in a dtype that does not hold its weights, before the work that the saving ends.

    Raises:
        ComeError: it does not.
    """
    if dtype is not None:
        for weight in model.parameters():
            if not weight.is_meta:
                held_in(weight.detach(), torch_dtype(dtype))


def held_in(weight: Tensor, dtype: Any) -> Tensor:
    """A weight in another dtype.

    Raises:
        ComeError: its values are too large for that or, by and large, too small: a hundredth of its norm is lost.
    """
    cast = weight.to(dtype)
    if dtype == torch.float16 != weight.dtype:
        norm, lost = (vector_norm(each, dtype=torch.float64) for each in (weight, cast.float() - weight.float()))
        if not bool(lost <= 0.01 * norm) and bool(norm.isfinite()):
            size = "large" if bool(cast.isinf().any()) else "small"
            raise ComeError(f"Weights of the model are too {size} for float16.", "Save it in bfloat16 or float32.")
    return cast


def check_space(folder: Path, needed: int) -> None:
    """Refuse to write where there is no room for it.

    Raises:
        ComeError: the disk of the folder has fewer than ``needed`` bytes free.
    """
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ComeError(
            f"The model needs {human_bytes(needed)}, and {parent} has {human_bytes(free)} free.",
            "Free some disk space, save in a smaller dtype, or keep only the plan.",
        )


def unwritable(folder: Path, error: OSError) -> ComeError:
    """What to tell the user where the disk refused a model."""
    # Where a write ends short, numpy tells numbers of entries.
    reason = error.strerror or ("not all of it was taken" if "requested and" in str(error) else str(error))
    return ComeError(
        f"The model could not be written to {folder}: {reason}.",
        "Free some disk space, raise the limit of a file's size (ulimit -f) or choose another folder; nothing was left "
        "half-written.",
    )
