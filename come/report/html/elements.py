"""HTML as nested calls: whatever is no HTML yet is escaped, so that no name that somebody gave can become markup."""

from __future__ import annotations

from html import escape

_EMPTY = {"meta"}  # elements that have no end
_NOT_IN_TEXT = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float) -> Html:
    """An element: `element("td", "1 < 2", class_="number")` is `<td class="number">1 &lt; 2</td>`.

    Args:
        name: what it is.
        children: what is in it; text is escaped.
        attributes: an underscore at the end of a name goes, any other is a hyphen: `aria_label`.
    """
    given = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{written(str(value))}"' for key, value in attributes.items()
    )
    end = "" if name in _EMPTY else f"{joined(*children)}</{name}>"
    return Html(f"<{name}{given}>{end}")


def joined(*children: str) -> Html:
    """Several, one behind the other."""
    return Html("".join(child if isinstance(child, Html) else written(child) for child in children))


def written(text: str) -> str:
    """A text escaped, for the inside of an element or an attribute, without what no document may hold."""
    return escape(text.translate(_NOT_IN_TEXT).encode("utf-8", "replace").decode())
