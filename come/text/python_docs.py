"""`python-docs`: the language reference that Python's standard library holds, as its help system shows it."""

from __future__ import annotations

from come.text.documents import join


def python_docs() -> str:
    """All topics, in the order of their names."""
    from pydoc_data.topics import topics  # half a megabyte, so only when asked for

    return join(topics[key] for key in sorted(topics))
