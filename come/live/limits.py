"""How much a visitor may ask for, and how much memory the answers may take. The one place for such limits."""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        models: the names that may be asked about; None for any.
        model_bytes: of all original models' weights in memory; None for half of what is free at the start. One
            model is always held, whatever its size.
        layer_bytes: of merged layers kept, for each original model.
        border_bytes: of hidden states kept, for each text of a model.
        chance_bytes: of the original's predictions kept, for each text of a model; beyond it they are made again.
        texts: how many texts of a model are kept at hand.
        whatif_tokens: held-back tokens of a what-if question. measured_tokens: calibration tokens of a measuring pass.
        prompt_tokens, new_tokens: of the playground. text_tokens: of a text that models are compared along.
        pruned_models: how many speak beside the original.
        suggestions: how many are made at once.
        idle_seconds: the process ends when nobody asked anything for so long.
    """

    models: tuple[str, ...] | None = None
    model_bytes: int | None = None
    layer_bytes: int = 1 << 30
    border_bytes: int = 1 << 30
    chance_bytes: int = 1 << 29
    texts: int = 2
    whatif_tokens: int = 16_384
    measured_tokens: int = 65_536
    prompt_tokens: int = 2_048
    new_tokens: int = 1_024
    text_tokens: int = 2_048
    pruned_models: int = 3
    suggestions: int = 5
    idle_seconds: float = 20 * 60

    def check_model(self, name: str) -> None:
        """Refuse a model that is not offered.

        Raises:
            ComeError: it is not.
        """
        if self.models is not None and name not in self.models:
            raise ComeError(f"The model {name} is not offered here.", f"Choose {' or '.join(self.models)}.")

    def check(self, what: str, asked: int, most: int) -> None:
        """Refuse more than is allowed.

        Raises:
            ComeError: ``asked`` is more than ``most``.
        """
        if asked > most:
            raise ComeError(f"{asked:,} {what} are more than is allowed here.", f"Ask for at most {most:,}.")


def current() -> Limits:
    """The limits that hold here."""
    return Limits()
