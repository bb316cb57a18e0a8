"""The plan page's saved plans: keep the present one under a name, open another, delete one."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import come
from app.components import plain_text
from app.plan import named_plans
from app.plan.named_plans import NamedPlan
from app.state import session
from app.state.choice import DEFAULT_SPARSITY
from come.errors import ComeError


def draw(ready: bool) -> None:
    """A button that opens the list, and a field for a name.

    Args:
        ready: the plan as it stands can be saved.
    """
    with st.popover("Saved plans", icon=":material/bookmarks:", key="saved-plans"):
        st.text_input(
            "Name of this plan", key="plan-name", max_chars=named_plans.LONGEST, placeholder="Two pairs in the middle"
        )
        st.button(
            "Save",
            key="save-plan",
            icon=":material/save:",
            on_click=_save,
            disabled=not ready,
            help="A plan of the same name is replaced. Plans are kept beside the runs, for everybody who uses them.",
        )
        _list(named_plans.saved())


def _list(plans: list[NamedPlan]) -> None:
    if not plans:
        st.caption("No plan is saved yet.")
        return
    for place, plan in enumerate(plans):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                plain_text.literal(plan.name),
                key=f"open-plan-{place}",
                icon=":material/folder_open:",
                type="tertiary",
                help=f"Open: {plain_text.literal(words(plan))}",
                on_click=_open,
                args=(plan,),
            )
            st.caption(plain_text.literal(words(plan)))
            st.button(
                "Delete",
                key=f"delete-plan-{place}",
                icon=":material/delete:",
                type="tertiary",
                help=f"Delete {plain_text.literal(plan.name)}",
                on_click=_delete,
                args=(plan.name,),
            )


def words(plan: NamedPlan) -> str:
    """A saved plan in a few words: method, aim, model."""
    draft, known = plan.draft, come.methods().get(plan.draft.method)
    if draft.windows is not None:
        aim = "merges " + (", ".join(f"{first}–{last}" for first, last in draft.windows) or "nothing")
        aim += f", drops {', '.join(map(str, draft.dropped))}" if draft.dropped else ""
    elif draft.target_layers is not None:
        aim = f"to {draft.target_layers} layers"
    else:
        aim = f"−{draft.sparsity if draft.sparsity is not None else DEFAULT_SPARSITY:.0%} parameters"
    return f"{known.title if known else draft.method}, {aim}; {Path(plan.choice.model).name}"


def _save() -> None:
    try:
        plan = named_plans.save(session.value("plan-name", ""), session.choice(), session.draft())
    except ComeError as error:
        session.set_problem(str(error))
        return
    session.put("plan-name", "")
    st.toast(f"Saved: {plain_text.literal(plan.name)}", icon=":material/save:")


def _open(plan: NamedPlan) -> None:
    if plan.draft.method not in come.methods():
        session.set_problem(f"There is no method {plan.draft.method!r} here.")
        return
    session.set_choice(plan.choice)
    session.set_draft(plan.draft)


def _delete(name: str) -> None:
    try:
        named_plans.delete(name)
    except ComeError as error:
        session.set_problem(str(error))
