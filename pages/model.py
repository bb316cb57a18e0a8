"""Choose a model and a text, see what the model is made of, start the analysis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app import formats, presenter
from app.components import cost_line, machine, widgets
from app.figures import model as figures
from app.state import request, session, visit
from come.errors import ComeError
from come.export.gguf_families import writable_families
from come.models import FAMILIES, Facts, known_models
from come.models.catalogue import BUNDLED
from come.request import Bos
from come.serving import limits, uploads
from come.text import ENDINGS, SUFFIXES, form_of_text, known_texts, short_name

TOKENS = [1024, 2048, 4096, 8192, 16384, 32768, 65536]
LARGEST_TEXT = 25  # MB
LENGTHS = [64, 128, 256, 512, 1024, 2048]

WHERE = f"""
| You have | Type |
|---|---|
| nothing yet | `smollm2-135m`, which ships with this program |
| a folder that Transformers wrote | its path, such as `/data/my-model` (it holds `config.json`) |
| a model on the Hugging Face hub | its id, such as `Qwen/Qwen3-0.6B` (needs a network once) |
| a GGUF file | its path, such as `/data/model.gguf` |
| an adapter (LoRA) | its folder; it is merged into the base model that its `adapter_config.json` names |

Paths are those of the machine that serves this page. Of models that take pictures too (Gemma 3, Mistral 3, Qwen2.5-VL,
Qwen3-VL) the text part is taken out.

Families: {", ".join(family.title for family in FAMILIES.values())}. As GGUF files, those of them that Transformers
reads (tested: {writable_families()}).
"""

FORMS = """Plain text, or rows of one of these forms:

- `text`
- `messages`: chats, through the model's chat template
- `conversations`: the same, with `from` and `value`
- `prompt` and `completion`
- `instruction`, `input` and `output`

Of other rows, one field or column is read: name it below.
"""


def page() -> None:
    st.title("Choose a model")
    choose, made_of = st.columns([1.2, 1.9], gap="large")
    try:
        facts = visit.facts()
    except ComeError as error:
        facts, problem = None, str(error)
    with choose:
        _choose_model()
        _choose_text()
        if facts is not None:
            _analyse(facts)
    with made_of:
        if facts is None:
            st.error(formats.sentence(problem), icon=":material/error:")
        else:
            _facts(facts)


def _choose_model() -> None:
    offered = limits.current().models
    known = {model.name: model for model in known_models() if offered is None or model.name in offered}
    chosen = session.choice().model
    session.put("model-source", chosen)
    st.selectbox(
        "Model",
        list(dict.fromkeys([*known, chosen])),
        key="model-source",
        accept_new_options=offered is None,
        format_func=lambda name: f"{known[name].title}  ({name})" if name in known else name,
        on_change=lambda: _choose(model=(session.value("model-source") or chosen).strip()),
        help="Pick one, or type a folder, a .gguf file or a hub id." if offered is None else None,
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if chosen in known:
            st.caption(known[chosen].note, width="content")
        if offered is None:
            widgets.info("Your own", WHERE, key="where-models-are")


def _choose_text() -> None:
    known = {text.name: text for text in known_texts()}
    choice = session.choice()
    session.put("text-source", choice.text)
    st.selectbox(
        "Calibration text",
        list(dict.fromkeys([*known, choice.text])),
        key="text-source",
        accept_new_options=limits.current().own_files,
        format_func=lambda name: known[name].title if name in known else short_name(name),
        on_change=lambda: _choose(text=(session.value("text-source") or choice.text).strip()),
        help="What the model reads while it is measured. Pick one, or type the path of a file.",
    )
    if choice.text in known:
        text = known[choice.text]
        st.caption(f"{text.note} From the hub: needs a network once." if text.where == "hub" else text.note)
    elif limits.current().own_files:
        _form(choice.text)
    session.put("token-count", choice.tokens)
    st.select_slider(
        "Tokens to read",
        sorted({*TOKENS, choice.tokens}),
        key="token-count",
        format_func=lambda count: f"{count:,}",
        on_change=lambda: _choose(tokens=session.value("token-count")),
        help="More tokens, steadier numbers, more time.",
    )
    with st.expander("Own text, sequence length, seed, BOS"):
        if limits.current().own_files:
            st.file_uploader(
                f"Upload a {ENDINGS} file",
                type=[suffix.removeprefix(".") for suffix in SUFFIXES],
                key="text-upload",
                max_upload_size=LARGEST_TEXT,
                on_change=_take_upload,
                help=FORMS,
            )
            st.text_input(
                "Field or column of it to read",
                key="text-column",
                placeholder="as the file's form tells",
                on_change=_take_upload,
                help="Needed only where its fields have names of their own.",
            )
        session.put("sequence-length", choice.seq_len)
        st.selectbox(
            "Tokens per sequence",
            sorted({*LENGTHS, choice.seq_len}),
            key="sequence-length",
            on_change=lambda: _choose(seq_len=session.value("sequence-length")),
        )
        session.put("seed-number", choice.seed)
        st.number_input(
            "Seed for choosing the sequences",
            min_value=0,
            step=1,
            key="seed-number",
            on_change=lambda: _choose(seed=int(session.value("seed-number") or 0)),
        )
        session.put("bos", choice.bos)
        st.segmented_control(
            "Beginning-of-sequence token (BOS)",
            get_args(Bos),
            key="bos",
            required=True,
            on_change=lambda: _choose(bos=session.value("bos")),
            help="Put before each sequence. Auto: as the model's tokenizer does. Some models (Gemma) are lost without.",
        )
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")


def _form(text: str) -> None:
    """In which form the visitor's own file will be read, or why it cannot be."""
    try:
        form = form_of_text(text)
    except ComeError as error:
        st.warning(formats.sentence(str(error)), icon=":material/warning:")
        return
    if form:
        st.caption(f"Read as {formats.literal(form)}.")


def _choose(**changes: Any) -> None:
    session.set_choice(replace(session.choice(), **changes))


def _take_upload() -> None:
    upload = session.value("text-upload")
    if not isinstance(upload, UploadedFile):
        return
    try:
        _choose(text=uploads.keep_text(upload.name, upload.getvalue(), (session.value("text-column") or "").strip()))
    except ComeError as error:
        session.set_problem(str(error))


def _facts(facts: Facts) -> None:
    st.header(formats.literal(facts.title))
    if not facts.supported:
        st.warning(formats.sentence(facts.reason), icon=":material/block:")
        return
    drawings, told = st.container(), st.container()
    with told if presenter.is_on() else drawings:  # before a room the drawings stand first: both fit on a screen
        _numbers(facts)
    with drawings:
        _drawings(facts)
    with told:
        _details(facts)


def _numbers(facts: Facts) -> None:
    """The counts that a model is known by."""
    widgets.facts_grid(
        {
            "Parameters": formats.human_count(facts.parameters),
            "Layers": f"{facts.layers}",
            "Hidden size": f"{facts.hidden_size:,}",
            "Feed-forward channels": f"{facts.intermediate_size:,}",
            "Attention heads": f"{facts.num_attention_heads} × {facts.head_dim}",
            "Key-value (KV) heads": f"{facts.num_key_value_heads}",
        }
    )
    if facts.note:
        st.caption(formats.literal(facts.note))


def _drawings(facts: Facts) -> None:
    """All parameters as a bar, and the matrices of one layer."""
    widgets.chart(
        figures.parameters_by_part(facts.parameters_by_part, facts.layers),
        key="parts",
        alt="Parameters of the model by part",
    )
    if facts.matrices:
        widgets.chart(
            figures.one_layer(facts.matrices),
            key="one-layer",
            alt="The matrices of one layer, drawn to scale: "
            + ", ".join(f"{each.name} {each.outputs} by {each.inputs}" for each in facts.matrices),
            zooms=False,
        )


def _details(facts: Facts) -> None:
    """What is rarely asked."""
    with st.expander("License, sizes, config"):
        widgets.facts_grid(
            {
                "License": facts.license or "not stated",
                "Family": facts.model_type,
                "Vocabulary": f"{facts.vocab_size:,}",
                "Context": f"{facts.max_position_embeddings:,} tokens",
                **{
                    f"Weights in {dtype}": formats.human_bytes(facts.bytes_at(facts.layers, dtype))
                    for dtype in ("float32", "bfloat16")
                },
            }
        )
        if facts.tied_embeddings:
            st.caption("The output head shares the embeddings' matrix: it is counted once, as embeddings.")
        st.json({name: value for name, value in facts.config.items() if name != "_name_or_path"}, expanded=1)


def _analyse(facts: Facts) -> None:
    if not facts.supported:
        return
    measured, _, is_example, run = visit.analysis()
    active = visit.analysis_run()
    if active is not None:
        widgets.progress(active)
        return
    last = visit.last_analysis()
    if last is not None and last.state().status not in ("done", *session.ACTIVE):
        widgets.ended_badly(last)
    if measured is not None and run is not None and not is_example:
        instead = " Plans go by it now, no longer by the example's." if facts.source == BUNDLED else ""
        st.success(f"Analysed over {measured.n_tokens:,} tokens.{instead}", icon=":material/check_circle:")
        widgets.next_step("channels", "See its channels")
        return
    widgets.launch_analysis()
    st.caption("Finds which channels matter and which layers are alike.")
    cost_line.draw(cost_line.cost([request.analysis(session.choice())], facts, None))
    machine.draw()
    if is_example:
        widgets.next_step("channels", "Or look at the finished example")


page()
