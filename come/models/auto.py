"""What is used of Transformers: imported here, and from here within the functions that need it.

Within functions, because importing it takes seconds. From here, because Transformers puts another module in its place
while it is imported: a thread that asks for it meanwhile is left with the first one, which lacks these names. It waits
for a module that stays the same, as this one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import find_adapter_config_file, logging

__all__ = [
    "AutoConfig",
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "PreTrainedConfig",
    "find_adapter_config_file",
    "quiet",
]


@contextmanager
def quiet() -> Iterator[None]:
    """Within, Transformers draws no progress bars (progress here is events) and warns of nothing; then as before."""
    was_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_enabled:
            logging.enable_progress_bar()
