"""Text of others, in a page that reads markdown and HTML: names and sentences that show as they were written."""

from __future__ import annotations

import re

from come.serving.demo import without_paths

# What markdown, its mathematics and Streamlit's directives (":red[...]") read as more than itself. An underscore
# within a word is itself.
_MARKS = re.compile(r"[\\`*\[\]<>#|~$&!]|(?<!\w)_|_(?!\w)|:(?=\w+\[)")
_FIRST = re.compile(r"^(\d+)(?=[.)])|^(?=[-+=])")  # what begins a list or underlines a heading
_CODE = re.compile(r"(`[^`]*`)")
_TAG = re.compile(r"<(?!/?(?:b|i|br|sub|sup)>)")


def literal(text: str) -> str:
    """A name as markdown: run names, models, files and texts hold whatever somebody typed."""
    line = _MARKS.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))
    return _FIRST.sub(lambda found: f"{found[1] or ''}\\", line)


def sentence(text: str) -> str:
    """A sentence of ours that may quote names, as markdown: `code` stays code, all else shows as it was written.

    A demonstration's visitors read no path of the server in it.
    """
    parts = _CODE.split(" ".join(without_paths(text).split()))
    return "".join(part if place % 2 else _MARKS.sub(lambda f: f"\\{f[0]}", part) for place, part in enumerate(parts))


def title(text: str) -> str:
    """A figure's title as HTML: line breaks, bold and raised text stay, and no other element."""
    return _TAG.sub("&lt;", text)
