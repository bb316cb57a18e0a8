"""What the outlines of the layers page mean, told the same under each of its charts."""

from __future__ import annotations

import streamlit as st

from app import theme
from app.figures.similarity import OPEN, PLANNED
from app.state import session

_STYLE = f"""<style>
.come-marks {{ display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .875rem; line-height: 1.6; }}
.come-marks span {{ white-space: nowrap; }}
.come-marks i {{
  display: inline-block; width: .85em; height: .85em; margin-right: .4em; vertical-align: -.08em; border-radius: 2px;
}}
.come-marks .open {{ border: 2px solid {OPEN}; }}
.come-marks .planned {{ background: {PLANNED}; }}
.come-marks .lowest {{ border: 2px dotted {theme.INK}; }}
</style>"""
_OPEN = "<span><i class='open'></i>open window</span>"
_PLANNED = "<span><i class='planned'></i>{}</span>"
_BY = "Lowest SBI, or practically tied with it"
_LOWEST = f"<span><i class='lowest'></i><span class='come-told' title='{_BY}'>least change</span></span>"


def draw(*, lowest: bool = True, opened: bool = True, in_plan: bool = True) -> None:
    """The legend; whether the chart marks the windows that change the state least, the open one, those of the plan."""
    planned = _PLANNED.format(session.plan_named().removeprefix("the ")) if in_plan else ""
    st.html(
        f"{_STYLE}<div class='come-marks'>{_OPEN if opened else ''}{planned}{_LOWEST if lowest else ''}</div>",
        width="content",
    )
