"""What an adapter's config asks of peft, bounded before peft does it: ranks, counts, and patterns for names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from come.errors import ComeError, reason_of
from come.models.plausible import values_of
from come.models.safetensors_header import AGAIN, Header

_SIZE = re.compile(r"^(r|n)$|rank|dim|size|num|frequency|block|factor|group|niter")
_LEAST = 4096  # a size may be as large, whatever the weights
_ROUNDS = 64  # of the decompositions that some adapters begin with
_NAMED_BY_PATTERN = ("target_modules", "exclude_modules", "feedforward_modules", "modules_to_save")
_LONGEST = 10_000  # characters of a pattern
_SECONDS = 1.0  # for all names
# A pattern that peft matches itself: without what is repeated within what is repeated.
_SLOW = re.compile(r"[*+?}]\)*[*+{]|\)[*+{]|([*+{].*){3}", re.DOTALL)


def refuse_outsized(told: Mapping[str, Any], weights: Header, folder: Path) -> None:
    """Refuse sizes in an adapter's config that its weights have not: peft would make room for them.

    Args:
        told: the document in adapter_config.json.
        weights: the header of the file of its weights.
        folder: the adapter's.

    Raises:
        ComeError: there is such a size; or it has modules of another library put in place of its own.
    """
    most = max([_LEAST, *(size for _, shape in weights.values() for size in shape)])
    for key, value in values_of(told):
        if type(value) is int and abs(value) > most and (_SIZE.search(key) or key in told.get("rank_pattern", ())):
            raise ComeError(f"The adapter {folder} says {key} {str(value)[:40]}, and its weights are smaller.", AGAIN)
        rounds = re.search(r"niter_(\d+)", value) if isinstance(value, str) else None
        if rounds and (len(rounds[1]) > 4 or int(rounds[1]) > _ROUNDS):
            raise ComeError(f"The adapter {folder} asks for {rounds[1][:40]} rounds of decomposition.", AGAIN)
    if told.get("megatron_config"):
        raise ComeError(f"The adapter {folder} is one of Megatron's layers, which is not read.", AGAIN)


def name_modules(config: Any, modules: Iterable[str], folder: Path) -> None:
    """Put the names of modules in the place of patterns for them, which may take for ever to match.

    Args:
        config: peft's, which is changed.
        modules: the names of all modules of the base model.
        folder: the adapter's.

    Raises:
        ComeError: a pattern is none, or takes too long.
    """
    names, until = [name for name in modules if name], monotonic() + _SECONDS
    ends = {name[at:] for name in names for at in (0, *(dot.end() for dot in re.finditer(r"\.", name)))}
    for field in _NAMED_BY_PATTERN:
        wanted = getattr(config, field, None)
        if isinstance(wanted, str) and len(wanted) > _LONGEST:
            raise _slow(wanted, folder)
        if isinstance(wanted, str) and wanted != "all-linear":
            setattr(config, field, {name for name in names if _matches(wanted, name, until, folder)})
        elif isinstance(wanted, list | set | tuple):
            setattr(config, field, type(wanted)(each for each in wanted if each in ends))
    layers = getattr(config, "layers_pattern", None) or ()
    for pattern in (
        *([layers] if isinstance(layers, str) else layers),
        *(getattr(config, "rank_pattern", None) or ()),
        *(getattr(config, "alpha_pattern", None) or ()),
    ):
        if not isinstance(pattern, str) or len(pattern) > 300 or _SLOW.search(pattern):
            raise _slow(pattern, folder)


def _matches(pattern: str, name: str, until: float, folder: Path) -> bool:
    import regex  # which, unlike re, can be told to give up

    try:
        return regex.fullmatch(pattern, name, timeout=max(until - monotonic(), 1e-3)) is not None
    except TimeoutError as error:
        raise _slow(pattern, folder) from error
    except (regex.error, RecursionError, MemoryError) as error:
        raise ComeError(
            f"The adapter {folder} has a pattern for names that is none ({reason_of(error)}).", AGAIN
        ) from error


def _slow(pattern: Any, folder: Path) -> ComeError:
    return ComeError(
        f"The adapter {folder} chooses modules by a pattern that takes too long to match ({str(pattern)[:60]!r}).",
        "Let target_modules in its adapter_config.json be a list of names.",
    )
