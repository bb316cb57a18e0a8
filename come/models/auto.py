"""What is used of Transformers: imported here, and from here within the functions that need it.

Within functions, because importing it takes seconds. From here, because Transformers puts another module in its place
while it is imported: a thread that asks for it meanwhile is left with the first one, which lacks these names. It waits
for a module that stays the same, as this one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import find_adapter_config_file, logging

__all__ = ["AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "find_adapter_config_file", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Within, Transformers draws no progress bars (progress here is events); afterwards it does as before."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
