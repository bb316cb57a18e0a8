"""The widgets of a new run, and the requests that they amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import come
from app import formats
from app.run import judging
from app.state import session, visit
from come.errors import ComeError
from come.models import Facts
from come.options import options_in
from come.recovery.registry import default_ways, ways
from come.recovery.way import Way
from come.request import RunConfig
from come.runs import as_sweep
from come.runs.sweep import variant
from come.serving import limits
from come.serving.limits import is_demo

LONGEST_NAME = 60  # characters of a run's name
DTYPES = ("float32", "bfloat16", "float16")
RIVALS = ("shortgpt", "come", "come-joint", "replaceme", "random")  # shown first, but for the plan's own method
RIVALS_SHOWN, RIVALS_TICKED = 4, 2


def requests(facts: Facts, layers: int) -> list[RunConfig]:
    """What the visitor asks for: the plan's own run first, then those to compare it with.

    Several are the cells of one sweep, so that they share what they can.
    """
    own = session.draft().method
    methods = _rivals(own)
    measured = judging.measures()
    with st.expander("More settings", icon=":material/tune:"):
        left, right = st.columns(2, gap="large")
        with left:
            targets, seeds = _more_cells(facts, layers)
            recovered = _recovered()
        with right:
            judged = judging.judged(measured)
            kept = _kept(facts, layers)
            if not is_demo():
                _where()
            name = st.text_input("Name", key="run-name", placeholder="optional", max_chars=LONGEST_NAME)
    try:
        judging.check(judged)
        fields = recovered | judged | kept
        first = visit.requested(name=(name or "")[:LONGEST_NAME], **fields)
        asked = [first]
        for seed in (first.seed + number for number in range(seeds)):
            for method in (own, *methods):
                for target in (layers, *targets):
                    if (seed, method, target) != (first.seed, own, layers):
                        asked.append(variant(first, method, target, seed))
    except ComeError as error:
        st.error(formats.sentence(str(error)), icon=":material/error:")
        return []
    return as_sweep(asked, visit=session.visit()) if len(asked) > 1 else asked


def _rivals(own: str) -> list[str]:
    """The other methods that the plan is compared with, each explained in a sentence."""
    known = come.methods()
    others = [name for name in known if name != own]
    first = [name for name in RIVALS if name in others][:RIVALS_SHOWN]
    st.markdown("**Rivals**", help="Each on the same text, to the same number of layers, one after the other.")
    columns = st.columns(RIVALS_SHOWN)
    ticked = [_box(name, columns[place], ticked=place < RIVALS_TICKED) for place, name in enumerate(first)]
    chosen = [name for name, is_ticked in zip(first, ticked, strict=True) if is_ticked]
    rest = [name for name in others if name not in first]
    picked = sum(bool(session.value(f"rival-{name}", False)) for name in rest)
    with st.expander(f"{len(rest)} more rivals" + (f", {picked} chosen" if picked else ""), key="more-rivals"):
        for row in range(0, len(rest), 2):
            for column, name in zip(st.columns(2, gap="large"), rest[row : row + 2], strict=False):
                if _box(name, column, told=True):
                    chosen.append(name)
    return [name for name in others if name in chosen]


def _box(name: str, column: DeltaGenerator, *, ticked: bool = False, told: bool = False) -> bool:
    """The box of a method, `ticked` to begin with; what it does is `told` beside its name, or behind a mark."""
    method = come.methods()[name]
    about = formats.literal(method.summary)
    return column.checkbox(
        f"**{method.title}** · {about}" if told else f"**{method.title}**",
        ticked,
        key=f"rival-{name}",
        persist_state="session",
        wrap=told,
        help=None if told else about,
    )


def _more_cells(facts: Facts, layers: int) -> tuple[list[int], int]:
    """The other targets, and over how many seeds."""
    targets = st.multiselect(
        "Also at",
        [count for count in range(facts.layers - 1, 0, -1) if count != layers],
        key="also-at",
        persist_state="session",
        format_func=lambda count: f"{count} layers",
        placeholder="other numbers of layers",
        help="Every method is run at each of them too.",
    )
    seeds = st.number_input(
        "Seeds",
        1,
        10,
        1,
        key="seeds",
        persist_state="session",
        help="Each seed draws other calibration sequences, so that the comparison shows how much they matter.",
    )
    return list(targets or []), int(seeds or 1)


def _recovered() -> dict[str, object]:
    """How to give the results back what they lost: the fields of a request."""
    known = ways()
    chosen = st.pills(
        "Recover with",
        list(known),
        selection_mode="multi",
        wrap=True,
        key="recover",
        persist_state="session",
        format_func=lambda name: known[name].title,
        help="What a pruned model gets back, in the order shown. Metrics are measured before and after.",
    )
    names = [name for name in known if name in (chosen or [])]
    if not names:
        st.button(
            f"Take the default: {', then '.join(default_ways())}",  # short: a narrow page cuts off the rest
            type="tertiary",
            icon=":material/healing:",
            on_click=session.put,
            args=("recover", default_ways()),
        )
        return {}
    for name in names:
        st.caption(f"{known[name].title}: {known[name].summary} {known[name].cost}")
    options: dict[str, object] = {}
    trained = [name for name in names if "minutes" in known[name].option_names]
    allowed = limits.current()
    if trained:
        usual = min(5.0, allowed.train_minutes or 5.0)
        minutes = st.number_input(
            "Minutes of training, for each",
            min_value=0.5,
            max_value=allowed.train_minutes,
            value=usual,
            step=0.5 if allowed.train_minutes else 1.0,
            key="recover-minutes",
            persist_state="session",
            help="The best weights on held-out tokens are kept, and the run page can stop it early.",
        )
        options = {f"{name}.minutes": float(minutes or usual) for name in trained}
    options |= _losses({name: known[name] for name in names})
    least = 2 * session.choice().seq_len
    most = max(least, allowed.run_tokens) if allowed.run_tokens else None
    enough = max(least, min(32768, most or 32768))
    tokens = st.number_input(
        "Tokens to learn from",
        min_value=least,
        max_value=most,
        value=enough,
        step=4096,
        key="recover-tokens",
        persist_state="session",
        help="Taken from the calibration part of the text; some of them are held out to judge the result.",
    )
    return {"recover": names, "recover_options": options, "recover_tokens": int(tokens or enough)}


def _losses(chosen: Mapping[str, Way]) -> dict[str, object]:
    """The losses of those ways that have a choice of them, where they are not the default: options of a request."""
    options: dict[str, object] = {}
    for name, way in chosen.items():
        loss = options_in(way.options).get("loss")
        if loss is None:
            continue
        taken = st.segmented_control(
            f"{way.title}: loss",
            get_args(loss.type),
            key=f"recover-loss-{name}",
            default=loss.default,
            required=True,
            persist_state="session",
            wrap=True,
            help=loss.description,
        )
        if taken != loss.default:
            options[f"{name}.loss"] = taken
    return options


def _where() -> None:
    """Where the runs execute."""
    st.text_input(
        "Where",
        key=session.WHERE,
        placeholder="on this machine",
        persist_state="session",
        help="Leave empty to use this machine, or give ray://HOST:PORT for a Ray cluster, as for `come run --on`.",
    )


def _kept(facts: Facts, layers: int) -> dict[str, object]:
    """What to keep of the result: the fields of a request."""
    keep = st.toggle(
        "Keep the pruned model",
        value=limits.current().keep_model,
        key="keep",
        persist_state="session",
        help="Off keeps the plan only: about 7 KiB per merge for the bundled model, more for larger ones. "
        "`come rebuild` makes the model from it, bit for bit.",
    )
    dtype = st.segmented_control(
        "Save in",
        DTYPES,
        key="save-dtype",
        default="float32",
        required=True,
        disabled=not keep,
        persist_state="session",
        wrap=True,
        format_func=lambda kind: f"{kind} · {formats.human_bytes(facts.bytes_at(layers, kind))}",
    )
    return {"keep_model": bool(keep), "save_dtype": dtype if keep else None}
