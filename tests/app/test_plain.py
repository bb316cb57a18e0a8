"""Names and sentences of others show as they were written, in markdown and in HTML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import formats
from tests.app import synthetic
from tests.app.compare.test_page_compare import Visit
from tests.app.conftest import Lab

LINK = "<a style=position:fixed;inset:0 href=//evil.example>x</a>"
NAME = "# ![x](//evil.example/p.png) [here](//evil.example) **bold** $x$ :red[late] `code`"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("CoMe, 27 layers", "CoMe, 27 layers"),
        ("my_model_2 (new), −8%: a·b", "my_model_2 (new), −8%: a·b"),
        ("_so_", r"\_so\_"),
        ("[here](//evil.example)", r"\[here\](//evil.example)"),
        (":red[late] a:b", r"\:red\[late\] a:b"),
        ("1. one\n\n# two", r"1\. one \# two"),
        ("- one", r"\- one"),
        (LINK, LINK.replace("<", r"\<").replace(">", r"\>")),
    ],
)
def test_a_name_is_no_markdown(name: str, shown: str) -> None:
    assert formats.literal(name) == shown


@given(st.text(alphabet="ab _*`[]()<>\\$:!#~|-+1.\n&", max_size=30))
def test_every_mark_of_a_name_is_escaped_and_nothing_is_lost(name: str) -> None:
    shown = formats.literal(name)
    assert re.sub(r"\\([^\w\s]|_)", r"\1", shown) == " ".join(name.split())
    assert not re.search(r"(?<!\\)[*`\[\]<>$]", re.sub(r"\\\\", "", shown))


def test_a_sentence_keeps_its_code() -> None:
    assert formats.sentence("No [x](y) *there*. Run `come models --a_[b]`.") == (
        r"No \[x\](y) \*there\*. Run `come models --a_[b]`."
    )


def test_a_title_keeps_its_lines_only() -> None:
    assert formats.chart_title("a<br><b>b</b> H<sup>2</sup>") == "a<br><b>b</b> H<sup>2</sup>"
    assert "<" not in formats.chart_title(f"{LINK}<script><b onclick=x><B>< b")


def evil(at: AppTest) -> list[str]:
    """What the page hands to the browser that names the foreign address, and would be more than text there."""
    assert not at.exception
    html = [each.proto.body for each in at.get("html") if "<a" in each.proto.body]
    said = [each.value for kind in ("markdown", "caption", "header", "error", "warning") for each in at.get(kind)]
    labels = [each.label for each in at.button]
    return html + [each for each in [*said, *labels] if re.search(r"(?<!\\)\[here|(?<!\\)!\[|(?<!\\)<a", each)]


@pytest.mark.parametrize("page", ["compare", "run", "plan", "inspect"])
def test_what_others_called_their_runs_is_text_on_every_page(visit: Visit, lab: Lab, page: str) -> None:
    for number, (method, name) in enumerate([("come", NAME), ("shortgpt", ""), ("random", LINK)]):
        synthetic.write(
            lab.runs, f"{number:04}", synthetic.results_of(method, 4, 0), method, 4, name=name, options={"refit": LINK}
        )
    waiting = synthetic.write(lab.runs, "0009", {}, "come", 3, status="queued", name=NAME)
    failed = synthetic.write(lab.runs, "0010", {}, "come", 3, status="failed", name=NAME)
    failed.update(error=f"There is no task {NAME!r}.")
    for opened in (None, waiting, failed):
        at = visit(page, model="smollm2-135m", text="python-docs", **({"run": opened.id} if opened else {}))
        assert not evil(at)


@pytest.mark.parametrize("page", ["plan", "model", "run", "channels", "layers"])
def test_what_a_link_names_is_text_on_every_page(visit: Visit, page: str, tmp_path: Path) -> None:
    at = visit(page, model=NAME, text=NAME, method=NAME, tokens=NAME)
    assert not evil(at)
    at = visit(page, text=NAME, options=f"refit:{LINK}", target="3")
    assert not evil(at)
