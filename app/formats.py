"""How numbers read on the page, and how the text of others shows as it was written, whatever it holds."""

from __future__ import annotations

import re

from come.files import human_bytes as human_bytes
from come.numbers import duration as duration
from come.numbers import human_count as human_count
from come.numbers import percent as percent
from come.numbers import ranges as ranges
from come.serving.limits import without_paths

# What markdown, its mathematics and Streamlit's directives (":red[...]") read as more than itself. An underscore
# within a word is itself.
_MARKS = re.compile(r"[\\`*\[\]<>#|~$&!]|(?<!\w)_|_(?!\w)|:(?=\w+\[)")
_FIRST = re.compile(r"^(\d+)(?=[.)])|^(?=[-+=])")  # what begins a list or underlines a heading
_CODE = re.compile(r"(`[^`]*`)")
_TAG = re.compile(r"<(?!/?(?:b|i|br|sub|sup)>)")


# --- text of others, in a page that reads markdown and HTML -----------------------------------------


def literal(text: str) -> str:
    """A name as markdown: run names, models, files and texts hold whatever somebody typed."""
    line = _MARKS.sub(lambda found: f"\\{found[0]}", " ".join(_encodable(text).split()))
    return _FIRST.sub(lambda found: f"{found[1] or ''}\\", line)


def sentence(text: str) -> str:
    """A sentence of ours that may quote names, as markdown: `code` stays code, all else shows as it was written.

    A demonstration's visitors read no path of the server in it.
    """
    parts = _CODE.split(" ".join(without_paths(_encodable(text)).split()))
    return "".join(part if place % 2 else _MARKS.sub(lambda f: f"\\{f[0]}", part) for place, part in enumerate(parts))


def _encodable(text: str) -> str:
    """Without halves of characters (surrogates), which names of files and JSON may hold and no page can be sent."""
    return text.encode("utf-8", "replace").decode()


def chart_title(text: str) -> str:
    """A chart's title as HTML: line breaks, bold and raised text stay, and no other element."""
    return _TAG.sub("&lt;", text)


# --- numbers -----------------------------------------------------------------------------------------


def signed(number: float) -> str:
    """-1.234 -> "−1.23", with a true minus sign; 1.234 -> "+1.23"."""
    return f"{number:+.3g}".replace("-", "−")


def about(seconds: float) -> str:
    """A time that is not known well: 83 -> "1 min 25 s"; never "0 s"."""
    if seconds >= 600:
        minutes = round(seconds / 60)
        return f"{minutes} min" if minutes < 60 else duration(60 * minutes)
    step = 1 if seconds < 20 else 5
    return duration(max(round(seconds / step) * step, step))
