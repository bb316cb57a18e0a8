"""Whether the Hugging Face hub can be reached: asked once and shortly, as its clients would retry for half a minute."""

from __future__ import annotations

SECONDS_TO_ANSWER = 5


def hub_error() -> Exception | None:
    """Why the hub does not answer one short question, or None."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # offline mode, or the HTTP client's own errors, whichever client the hub uses
        return error
    return None
