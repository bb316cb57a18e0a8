"""Sending a model to the hub: all of it in one commit, by a token from the environment that is told to nobody else.

``HF_ENDPOINT`` says which hub. A login that ``hf auth login`` stored is not used: who sends something names the token.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from come.errors import ComeError, reason_of
from come.files import human_bytes

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""The environment variables that a token is taken from; the first that is set counts."""

LARGE = 1 << 20
"""Bytes from which on a file is sent by itself and told of; smaller ones go with the commit."""

_AGAIN = "Push again: what has arrived is not sent twice."


@dataclass(frozen=True)
class Destination:
    """Where a model goes.

    Attributes:
        repo: owner/name.
        private: only its owner sees it. If not, a new one is public, or what its organization has as the default.
        revision: the branch, made where there is none; "" for the main one.
        message: the commit's first line; "" for one that says what is sent.
    """

    repo: str
    private: bool = False
    revision: str = ""
    message: str = ""


@dataclass(frozen=True)
class Pushed:
    """What became of it: the model's page, and the commit that brought it there."""

    url: str
    commit: str


def has_token() -> bool:
    """Whether a token is in the environment."""
    return bool(_from_environment())


def check_repo(repo: str) -> None:
    """Refuse what is no name on the hub.

    Raises:
        ComeError: it is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is, but not marked so

    try:
        validate_repo_id(repo)
        if repo.count("/") == 1:
            return
    except HFValidationError:
        pass
    raise ComeError(
        f"{repo!r} is no name on the hub.",
        "Write owner/name, of letters, digits, '-', '_' and '.', such as my-name/smollm2-27-layers.",
    )


class Hub:
    """A place on the hub to send a model to."""

    def __init__(self, to: Destination) -> None:
        """See that it can be sent there, and make the repository where there is none.

        Raises:
            ComeError: the name is none, there is no token, the hub cannot be reached, or it refuses.
        """
        check_repo(to.repo)
        token = _token()
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            raise ComeError("The hub is switched off here (HF_HUB_OFFLINE).", "Unset it, and push again.")
        self.to, self._token, self._api = to, token, HfApi(token=token)
        with self._refusals():
            self._api.create_repo(to.repo, private=to.private or None, exist_ok=True)
            shown = to.private and not self._api.model_info(to.repo).private  # of one that was there already
            if to.revision and not shown:
                self._api.create_branch(to.repo, branch=to.revision, exist_ok=True)
        if shown:
            raise ComeError(
                f"{to.repo} is on the hub already and is public, so nothing was sent.",
                "Make it private in its settings there, or choose another name.",
            )

    def send(self, files: Mapping[str, Path | bytes], tell: Callable[[str], None]) -> Pushed:
        """Send files, the large ones first and one by one; they appear together, in one commit, or not at all.

        Args:
            files: by their names there. Others that are there stay.
            tell: is told what is being done.

        Raises:
            ComeError: the hub cannot be reached, or it refuses.
        """
        from huggingface_hub import CommitOperationAdd

        to, endpoint = self.to, self._api.endpoint
        with self._refusals():
            operations = [
                CommitOperationAdd(name, source if isinstance(source, bytes) else str(source))
                for name, source in files.items()
            ]
            large = [operation for operation in operations if operation.upload_info.size >= LARGE]
            for number, operation in enumerate(large, start=1):
                size = human_bytes(operation.upload_info.size)
                tell(f"Sending {operation.path_in_repo}, {size} ({number} of {len(large)})")
                self._api.preupload_lfs_files(to.repo, [operation], revision=to.revision or None, free_memory=False)
            tell("Committing")
            told = self._api.create_commit(
                to.repo,
                operations,
                commit_message=to.message or "Upload a pruned model with CoMe Lab",
                revision=to.revision or None,
            )
        page = f"{endpoint}/{to.repo}" + (f"/tree/{to.revision}" if to.revision else "")
        return Pushed(page, str(told.oid))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What goes wrong within, in a sentence; nothing is drawn or logged meanwhile."""
        try:
            with _quiet():
                yield
        except ComeError:
            raise
        except Exception as error:  # the hub, its HTTP clients and its storage have no base class in common
            raise self._refusal(error) from None  # what lies behind it may hold a request, and that the token

    def _refusal(self, error: Exception) -> ComeError:
        repo, endpoint = self.to.repo, self._api.endpoint
        behind: list[BaseException] = [error]
        while (cause := behind[-1].__cause__ or behind[-1].__context__) is not None and len(behind) < 10:
            behind.append(cause)
        response: Any = next((found for each in behind if (found := getattr(each, "response", None)) is not None), None)
        status = None if response is None else int(response.status_code)
        if status is None:
            reason = reason_of(Exception(str(error).replace(self._token, "…") or type(error).__name__))
            return ComeError(f"{repo} was not sent, or not all ({reason}).", f"Can {endpoint} be reached? {_AGAIN}")
        if status >= 500:
            return ComeError(f"The hub at {endpoint} has trouble of its own ({status}).", f"Wait a while. {_AGAIN}")
        if status in _SENTENCES:
            what, hint = _SENTENCES[status]
            return ComeError(what.format(repo=repo, endpoint=endpoint), hint.format(repo=repo, endpoint=endpoint))
        said = next((told for each in behind if (told := getattr(each, "server_message", None))), None)
        reason = f": {said}".replace(self._token, "…")[:300].rstrip(". ") if said else ""
        return ComeError(f"The hub refused {repo} ({status}{reason}).", "Put that right, and push again.")


_SENTENCES = {
    401: (
        "The hub at {endpoint} does not take the token for {repo}.",
        "Make one that may write, at {endpoint}/settings/tokens, and set HF_TOKEN to it.",
    ),
    403: (
        "The token may not write to {repo}.",
        "Use one that may (HF_TOKEN), or name an owner that is you or an organization of yours.",
    ),
    404: ("The hub at {endpoint} has no place {repo}.", "Check the owner, the name and the revision."),
    409: ("Something else changes {repo} at the same time, so nothing was committed.", _AGAIN),
    429: ("The hub has had too many requests of this token.", f"Wait a few minutes. {_AGAIN}"),
}


def _from_environment() -> str:
    return next((token for name in TOKENS if (token := os.environ.get(name, "").strip())), "")


def _token() -> str:
    token = _from_environment()
    if not token:
        raise ComeError(
            "There is no token for the hub.",
            "Make one that may write, at https://huggingface.co/settings/tokens, and set HF_TOKEN to it.",
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ComeError("HF_TOKEN holds signs that no token has.", "Copy the token again, without quotes around it.")
    return token


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, the hub's library draws no bars, warns of nothing and logs nothing; afterwards it does as before."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    had_bars, logger = not are_progress_bars_disabled(), logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            disable_progress_bars()
            yield
    finally:
        logger.setLevel(level)
        if had_bars:
            enable_progress_bars()
