"""What a report keeps to itself: in which folders a machine has its models, texts and runs."""

from __future__ import annotations

from come.errors import ComeError
from come.files import last_names
from come.report.comparison import short
from come.request import RunConfig
from come.runs import Run
from come.text import short_name


class Hidden:
    """A run's folders, cut from whatever is said of it: each path is told by its last name."""

    def __init__(self, run: Run) -> None:
        known = [str(run.path), str(run.path.parent)]
        try:
            config = run.config
        except ComeError:  # an unreadable run is told of, too
            config = None
        if config is not None:
            texts = (config.text, config.evaluation_text, config.recover_text)
            known += [config.model, *(text for text in texts if text), *config.tasks]
        self._known = sorted({each for each in known if "/" in each}, key=len, reverse=True)

    def in_text(self, text: str) -> str:
        """A text of ours, with no path in it."""
        for path in self._known:
            text = text.replace(path, short(path))
        return last_names(text)

    def in_request(self, config: RunConfig) -> RunConfig:
        """The same request of files that lie beside the reader."""
        texts = {
            name: short_name(text)
            for name in ("text", "evaluation_text", "recover_text")
            if (text := getattr(config, name))
        }
        names = {"model": short(config.model), "tasks": [short(task) for task in config.tasks]}
        return config.model_copy(update={**names, **texts})
