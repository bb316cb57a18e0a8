"""lm-eval's own tasks keep their data on the Hugging Face hub: what is told where it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from come.errors import ComeError
from come.hub import hub_error


@contextmanager
def needing_the_hub(task: str, offline: str) -> Iterator[None]:
    """Within, data are fetched from the hub, or found where they were kept; what fails becomes one sentence.

    Args:
        task: the task whose data it is.
        offline: the names of tasks that need no network.

    Raises:
        ComeError: the hub cannot be reached and the data were never fetched, or they cannot be loaded.
    """
    reached = hub_error() is None
    try:
        if reached:
            yield
        else:
            with _known_to_be_offline():
                yield
    except ComeError:
        raise
    except Exception as error:  # the hub, its HTTP client, Arrow and a task's own code have no base class in common
        if not reached:
            raise ComeError(
                f"The task {task!r} needs data from the Hugging Face hub, which cannot be reached.",
                f"Without a network there are {offline}, and .jsonl files of your own.",
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ComeError(f"The task {task!r} cannot be loaded: {reason}.", "Choose another one.") from error


@contextmanager
def _known_to_be_offline() -> Iterator[None]:
    """Within, what was fetched before is used and nothing else is tried."""
    import datasets.config
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
