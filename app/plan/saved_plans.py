"""Plans kept under a name, as small JSON files beside the runs, so that a restart loses none; and their popover."""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import come
from app import formats
from app.state import request, session
from app.state.choice import DEFAULT_SPARSITY, Choice, Draft
from come import files, reading, settings
from come.errors import ComeError
from come.files import size_of
from come.serving import limits

LONGEST = 60  # characters of a name


@dataclass(frozen=True)
class SavedPlan:
    """A plan that was saved: under which name, when (seconds since 1970), and what of."""

    name: str
    saved: float
    choice: Choice
    draft: Draft


def folder() -> Path:
    """Where the files lie."""
    return settings.runs_dir() / "plans"


def save(name: str, choice: Choice, draft: Draft) -> SavedPlan:
    """Keep a plan; one of the same name is replaced.

    Raises:
        ComeError: the name is empty or too long, or the disk refuses.
    """
    name = " ".join(name.split())
    if not name:
        raise ComeError("The plan has no name yet.", "Write one.")
    if len(name) > LONGEST:
        raise ComeError(f"The name has {len(name)} characters.", f"Use at most {LONGEST}.")
    most = limits.current().plan_bytes
    if not most:
        raise ComeError("Plans are not kept under a name here.", "Download the plan instead.")
    plan = SavedPlan(name, time.time(), choice, draft)
    values = {
        "name": name,
        "saved": plan.saved,
        "request": json.loads(request.to_json(request.config(choice, draft))),
    }
    with files.disk_faults(folder()):
        folder().mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    limits.current().check("bytes of plans", size_of(folder()) + len(text.encode()), most)
    files.replace(_path(name), text)
    return plan


def saved() -> list[SavedPlan]:
    """All that were saved, the newest first; a file that cannot be read is left out."""
    found = []
    for path in folder().glob("*.json"):
        # Another version's, or somebody else's file: the others are shown all the same.
        with suppress(OSError, ValueError, TypeError, KeyError, ComeError):
            values = reading.values_in(reading.bytes_of(path), path.name)
            choice, draft = request.from_json(json.dumps(values["request"]))
            found.append(SavedPlan(str(values["name"]), float(values["saved"]), choice, draft))
    return sorted(found, key=lambda plan: -plan.saved)


def delete(name: str) -> None:
    """Remove a saved plan; one that is gone already is fine. Among strangers there are none to remove.

    Raises:
        ComeError: the folder may not be written.
    """
    if not limits.current().plan_bytes:
        return
    with files.disk_faults(folder()):
        _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    """A file name that any system takes, one for each name."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return folder() / f"{plain or 'plan'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


# --- the popover -------------------------------------------------------------------------------------


def draw(ready: bool) -> None:
    """A button that opens the list, and a field for a name.

    Args:
        ready: the plan as it stands can be saved.
    """
    with st.popover("Saved", icon=":material/bookmarks:", key="saved-plans"):
        st.text_input("Name of this plan", key="plan-name", max_chars=LONGEST, placeholder="Two pairs in the middle")
        st.button(
            "Save",
            key="save-plan",
            icon=":material/save:",
            on_click=_save,
            disabled=not ready,
            help="A plan of the same name is replaced. Plans are kept beside the runs, for everybody who uses them.",
        )
        _list(saved())


def _list(plans: list[SavedPlan]) -> None:
    if not plans:
        st.caption("No plan is saved yet.")
        return
    for place, plan in enumerate(plans):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                formats.literal(plan.name),
                key=f"open-plan-{place}",
                icon=":material/folder_open:",
                type="tertiary",
                help=f"Open: {formats.literal(words(plan))}",
                on_click=_open,
                args=(plan,),
            )
            st.caption(formats.literal(words(plan)))
            st.button(
                "Delete",
                key=f"delete-plan-{place}",
                icon=":material/delete:",
                type="tertiary",
                help=f"Delete {formats.literal(plan.name)}",
                on_click=_delete,
                args=(plan.name,),
            )


def words(plan: SavedPlan) -> str:
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
        plan = save(session.value("plan-name", ""), session.choice(), session.draft())
    except ComeError as error:
        session.set_problem(str(error))
        return
    session.put("plan-name", "")
    st.toast(f"Saved: {formats.literal(plan.name)}", icon=":material/save:")


def _open(plan: SavedPlan) -> None:
    if plan.draft.method not in come.methods():
        session.set_problem(f"There is no method {plan.draft.method!r} here.")
        return
    session.set_choice(plan.choice)
    session.set_draft(plan.draft)


def _delete(name: str) -> None:
    try:
        delete(name)
    except ComeError as error:
        session.set_problem(str(error))
