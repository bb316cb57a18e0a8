"""The plan page's toolbar: ready-made plans in one click, undo and redo."""

from __future__ import annotations

import streamlit as st

from app.plan import planning
from app.state import session
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts


def draw(measured: Measurement | None, facts: Facts) -> None:
    """Presets, undo and redo, in one row."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Start from", width="content")
        for preset in planning.PRESETS:
            st.button(
                f"−{preset.label}" if preset.share else preset.label,
                key=f"preset-{preset.label}",
                help=preset.help if preset.share or measured else f"{preset.help} Needs an analysis first.",
                disabled=preset.pairs is not None and measured is None,
                on_click=_apply,
                args=(preset, measured, facts),
            )
        st.button(
            "Undo",
            key="undo",
            icon=":material/undo:",
            type="tertiary",
            shortcut="Alt+Z",
            on_click=session.undo,
            disabled=not session.can_undo(),
        )
        st.button(
            "Redo",
            key="redo",
            icon=":material/redo:",
            type="tertiary",
            shortcut="Alt+Shift+Z",
            on_click=session.redo,
            disabled=not session.can_redo(),
        )


def _apply(preset: planning.Preset, measured: Measurement | None, facts: Facts) -> None:
    try:
        session.set_draft(planning.apply(preset, session.draft(), measured, facts))
    except ComeError as error:
        session.set_problem(str(error))
