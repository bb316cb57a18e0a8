"""The frame: navigation, the strip on top, and one sentence for whatever goes wrong.

Started by ``streamlit run app/main.py``.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # streamlit puts app/ on the path, not the project
    sys.path.insert(0, str(ROOT))

from app import formats, presenter, strip, theme  # noqa: E402
from app.components import widgets  # noqa: E402
from app.inspect import inspected_run  # noqa: E402
from app.server import downloads, page_turns, sign_in  # noqa: E402
from app.state import linked_run, session  # noqa: E402
from come.errors import ComeError  # noqa: E402
from come.runs import Run  # noqa: E402

# In the order of a visit: file and path, title, icon.
PAGES = [
    ("home", "Home", ":material/home:"),
    ("model", "Model", ":material/deployed_code:"),
    ("channels", "Channels", ":material/grid_on:"),
    ("layers", "Layers", ":material/layers:"),
    ("plan", "Plan", ":material/edit_note:"),
    ("run", "Run", ":material/play_circle:"),
    ("compare", "Compare", ":material/compare_arrows:"),
    ("inspect", "Inspect", ":material/extension:"),
    ("playground", "Playground", ":material/forum:"),
    ("learn", "Learn", ":material/school:"),
]


# Where a plan that nobody has touched is not spoken of: what they show is of other models.
NOT_OF_THE_PLAN = ("home", "compare", "playground", "learn")


def _shown_run(page: str) -> Run | None:
    """The run that a page of that name is about; None where it is about the visitor's plan."""
    return linked_run.opened() if page == "run" else inspected_run.shown() if page == "inspect" else None


def main() -> None:
    """Draw one run of the page."""
    st.set_page_config(page_icon=ROOT / "app" / "static" / "icon.svg", layout="wide")
    if sign_in.is_wanted() and not downloads.served:
        st.error("Signing in is asked for, which this server cannot do. Start it with `come app`.")
        return
    st.html(theme.css())
    st.logo(ROOT / "app" / "static" / "logo.svg", size="large")
    pages = [
        st.Page(ROOT / "pages" / f"{name}.py", title=title, icon=icon, url_path=name)
        for name, title, icon in PAGES
        if (ROOT / "pages" / f"{name}.py").is_file()
    ]

    def first() -> None:
        # The default page answers at "/" only, so it is a hidden one: each real page keeps its own path.
        st.switch_page(pages[0])

    start = st.Page(first, title="CoMe Lab", url_path="start", default=True, visibility="hidden")
    page = st.navigation([start, *pages], position="sidebar", expanded=True)
    st.set_page_config(page_title=f"{page.title} · CoMe Lab")
    session.begin()
    try:
        with page_turns.turn():
            presenter.follow_link()
            if page is not start and presenter.frame(page, pages):
                strip.draw(_shown_run(page.url_path), begins=page.url_path in NOT_OF_THE_PLAN)
            page.run()
    except ComeError as error:
        st.error(formats.sentence(str(error)), icon=":material/error:")
        if page is not pages[0]:
            widgets.next_step("model", "Go to the model page")
    except Exception:  # the reader gets a sentence, the log the traceback
        logging.getLogger("come.app").exception("The page %s failed.", page.title)
        st.error(
            "This page met a fault of ours. Reload it; if it stays, the server's log has the details.",
            icon=":material/bug_report:",
        )


main()
