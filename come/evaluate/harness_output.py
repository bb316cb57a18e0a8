"""What lm-eval found, in lm-eval's own files: as its ``--output_path`` and ``--log_samples`` write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.evaluate.quiet import quiet
from come.models import Bundle


class HarnessOutput:
    """Takes up what lm-eval gives of each set of questions; ``write`` then has it write that down."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def add(self, results: dict[str, Any]) -> None:
        """What ``lm_eval.evaluate`` gave of one set."""
        for part, values in results.items():
            if isinstance(values, dict):
                self._found.setdefault(part, {}).update(values)

    def write(self, folder: Path, bundle: Bundle, limit: int | None, samples: bool = False) -> list[Path]:
        """Write ``FOLDER/MODEL/results_DATE.json``; with samples, ``samples_TASK_DATE.jsonl`` beside it.

        Args:
            folder: made where there is none; nothing in it is replaced.
            bundle: the model that answered.
            limit: how many questions of a task were asked; None for all.
            samples: also each question with its answers.

        Raises:
            ComeError: the folder cannot be written.
        """
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.loggers.utils import add_env_info

        before = set(folder.rglob("*"))
        device, named = str(bundle.model.device), f"pretrained={bundle.source}"
        asked = {"model": "hf", "model_args": named, "limit": limit, "device": device}
        found = {name: values for name, values in self._found.items() if name != "samples"}
        answered = self._found.get("samples", {})
        with quiet():
            tracker = EvaluationTracker(output_path=str(folder))
            tracker.general_config_tracker.log_experiment_args("hf", named, None, None, False)
            results = {**found, "config": asked}
            add_env_info(results)
            tracker.save_results_aggregated(results, answered if samples else None)
            for task, each in answered.items() if samples else ():
                tracker.save_results_samples(task, each)
        written = sorted(path for path in set(folder.rglob("*")) - before if path.is_file())
        if not written:  # lm-eval only logs what went wrong
            raise ComeError(f"{folder} cannot be written.", "Name a folder that can, with room on its disk.")
        return written
