"""Data sets of the Hugging Face hub that have a short name here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from come.errors import ComeError
from come.models.source import hub_error
from come.text.documents import join

Row = Mapping[str, Any]


def _question(row: Row) -> str:
    """A multiple-choice question with its answer, in the wording of the benchmark."""
    choices = [f"{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True)]
    return "\n".join([row["question"].strip(), *choices, f"Answer: {'ABCD'[row['answer']]}"])


@dataclass(frozen=True)
class HubSet:
    """Where a data set lies on the hub and how its rows become text.

    Attributes:
        calibration, evaluation: its splits; no evaluation split means that the one there is gets divided.
        streamed: too large to download whole, so it is read from its beginning.
    """

    name: str
    title: str
    repo: str
    config: str | None
    calibration: str
    evaluation: str | None
    note: str
    streamed: bool = False
    text_of: Callable[[Row], str] = itemgetter("text")


SETS: dict[str, HubSet] = {
    entry.name: entry
    for entry in (
        HubSet(
            "wikitext2", "WikiText-2", "Salesforce/wikitext", "wikitext-2-raw-v1", "train", "test",
            "Wikipedia's good articles: the usual text for perplexity.",
        ),
        HubSet(
            "c4", "C4", "allenai/c4", "en", "train", "validation",
            "Web pages in English, cleaned: the usual text for calibration.", streamed=True,
        ),
        HubSet(
            "pg19", "PG-19", "emozilla/pg19", None, "train", "test",
            "Whole books from before 1919: long contexts.", streamed=True,
        ),
        HubSet(
            "bookcorpus", "BookCorpus", "rojagtap/bookcorpus", None, "train", None,
            "Sentences of unpublished novels.", streamed=True,
        ),
        HubSet(
            "alpaca", "Alpaca", "tatsu-lab/alpaca", None, "train", None,
            "Instructions with their answers.",
        ),
        HubSet(
            "mmlu", "MMLU", "cais/mmlu", "all", "auxiliary_train", "test",
            "Multiple-choice questions with their answers.", streamed=True, text_of=_question,
        ),
    )
}  # fmt: skip


def fetch(name: str, split: str) -> str:
    """The text of one split ("calibration" or "evaluation") of a set, cut at ``documents.MAX_CHARACTERS``.

    Raises:
        ComeError: the hub cannot be reached, or does not give the set.
    """
    entry = SETS[name]
    return _fetch(name, (split == "evaluation" and entry.evaluation) or entry.calibration)


@lru_cache(maxsize=2)
def rows(name: str) -> list[str]:
    """The rows of a set's calibration split, as they are.

    Raises:
        ComeError: the hub cannot be reached or does not give the set; or it is too large to have all of its rows here.
    """
    entry = SETS[name]
    if entry.streamed:
        whole = ", ".join(each.name for each in SETS.values() if not each.streamed)
        raise ComeError(
            f"Rows are drawn from all of a set, and {entry.title} is too large for that.",
            f"Name {whole}, or a .txt of lines.",
        )
    try:
        return list(_load(entry, entry.calibration))
    except ComeError as error:
        copy = "Or name a copy of the set, a line a row: FILE.txt:rows=256,seed=10."
        raise ComeError(error.what, f"{error.hint} {copy}") from error


@lru_cache(maxsize=4)  # a run reads the same set for its tokens and for its hash; 8 MB each
def _fetch(name: str, part: str) -> str:
    entry = SETS[name]
    return join(_load(entry, part))


def _load(entry: HubSet, part: str) -> Iterator[str]:
    """The texts of a split's rows, one after the other."""
    _require_hub(entry)
    import datasets  # takes a second to import

    try:
        with no_progress_bars():
            for row in datasets.load_dataset(entry.repo, entry.config, split=part, streaming=entry.streamed):
                yield entry.text_of(row)
    except Exception as error:  # the hub, its HTTP client and Arrow have no base class in common
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ComeError(f"The hub did not give the text '{entry.name}': {reason}.", _without_network(entry)) from error


def _without_network(entry: HubSet) -> str:
    hint = "Check the network, or use python-docs or a .txt or .jsonl file, which need none"
    return f"{hint}." if entry.streamed else f"{hint}; HF_HUB_OFFLINE=1 uses what was downloaded before."


def _require_hub(entry: HubSet) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    error = hub_error()
    if error is not None:
        what = f"The text '{entry.name}' lies on the Hugging Face hub, which cannot be reached."
        raise ComeError(what, _without_network(entry)) from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Within, ``datasets`` draws no bars on stderr; afterwards it does as before."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disabled_before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled_before:
            enable_progress_bars()
