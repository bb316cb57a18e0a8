"""Answers by the link that shows them: a reload, and whoever is given the link, sees them again.

The link names what was asked by a hash. What was answered lately is kept in memory; what is no longer is asked anew,
in the background, where the link's own prompt and settings are what it names.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

import streamlit as st

from app.playground.candidates import Offer
from app.playground.generation import Asked, Generation

PARAM = "asked"
MOST = 24  # of all visitors


def name(asked: Asked) -> str:
    """What a link calls a question: the same for the same models, prompt and settings."""
    what = [asked.model, asked.prompt, list(asked.plans), asked.sampling.model_dump(), asked.chat]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def keep(generation: Generation) -> None:
    """Remember what is being answered, in place of the oldest."""
    kept = _kept()
    kept[name(generation.asked)] = generation
    kept.move_to_end(name(generation.asked))
    while len(kept) > MOST:
        kept.popitem(last=False)


def linked(offer: Offer) -> Generation | None:
    """The answers that the link shows, if they are remembered and their models are still there."""
    found = _kept().get(st.query_params.get(PARAM, ""))
    there = found is not None and found.asked.model == offer.model and set(found.asked.plans) <= set(offer.candidates)
    return found if there else None


def is_linked(asked: Asked) -> bool:
    """Whether the link shows the answers to this very question."""
    return st.query_params.get(PARAM) == name(asked)


def follow(generation: Generation | None) -> None:
    """Let the link show these answers; what ships with the example needs none."""
    if generation is not None and not generation.recorded:
        st.query_params[PARAM] = name(generation.asked)
    elif PARAM in st.query_params:
        del st.query_params[PARAM]


@st.cache_resource(show_spinner=False)
def _kept() -> OrderedDict[str, Generation]:
    return OrderedDict()
