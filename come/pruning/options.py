"""The options that methods share: how tokens go through the model, and how windows of layers are chosen."""

from __future__ import annotations

from typing import Any, Literal, Self, TypedDict

from pydantic import Field, model_validator
from torch import Tensor

from come.errors import ComeError
from come.measurement.measure import check_rules
from come.models import Facts
from come.options import Options
from come.pruning.scoring import Measure
from come.pruning.windows import Window, check_dropped, check_windows, merged_away
from come.transforms.compatible import check_mixable, check_reach


class MethodOptions(Options):
    """Of a method that leaves nothing to choose; and what any method's options may say beside their fields."""

    @property
    def instead_of_target(self) -> str | None:
        """The option that says alone how far to prune (see ``target``), if it is given."""
        return None

    @property
    def one_by_one(self) -> bool:
        """Whether a stepwise method with these options takes the same steps to a lower target, and more after them."""
        return True

    @property
    def fits(self) -> Literal["refit", "tune"] | None:
        """The option by which weights are fitted and put in place of others: of merged layers, of kept units."""
        return None

    @property
    def counts_parameters(self) -> bool:
        """Whether a method whose target is a number of parameters keeps to that, and to no other budget instead."""
        return True

    def eliminated(self, facts: Facts, span: int) -> int:
        """From how many inputs of a map units are eliminated together, in a window of up to so many layers."""
        return 0

    @property
    def needs(self) -> tuple[str, ...]:
        """What these options take of the calibration tokens beside what the method does (``Method.needs``)."""
        return ()

    @property
    def moves_weights(self) -> bool:
        """Whether new weights are put in place of others, whatever the options."""
        return False

    def check_sequences(self, sequences: int) -> None:
        """Refuse so few calibration sequences that the options cannot part them.

        Raises:
            ComeError: as it says.
        """

    def target(self, model: Any, layers: int) -> int:
        """How many of ``layers`` layers are left, where ``instead_of_target`` names an option; all, with none.

        Raises:
            ComeError: the options do not fit the model.
        """
        return layers

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse a target that does not go with the options.

        Args:
            model: the model, or its facts.
            layers: how many it has.
            target: how many are to be left.

        Raises:
            ComeError: as it says.
        """


class PassOptions(MethodOptions):
    """How a pass of tokens through the model is made."""

    batch_size: int | None = Field(
        None, ge=1, description="Sequences that go through the model at once; empty for about 2,048 tokens."
    )


class CachedPassOptions(PassOptions):
    """How passes are made that start from hidden states that were kept."""

    memory_budget: int | None = Field(
        None,
        ge=0,
        description="Bytes for hidden states at layer borders; empty for a quarter of the free memory. "
        "The result does not change.",
    )


class Running(TypedDict):
    """How passes are made."""

    batch_size: int | None
    memory_budget: int | None


class ScoredOptions(CachedPassOptions):
    """How changes of a model are scored."""

    score: Measure = Field("kl", description="What is scored: the divergence from the original, or the loss.")
    scoring_tokens: int = Field(
        1024, ge=2, description="How many tokens only score: the last of the calibration's, a quarter of them at most."
    )

    @property
    def moves_weights(self) -> bool:
        """Output maps are solved for."""
        return True

    def running(self) -> Running:
        """How passes are made, for what takes these two."""
        return {"batch_size": self.batch_size, "memory_budget": self.memory_budget}

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The sequences that maps are fitted on, and those that score; each int64 (sequences, tokens)."""
        held = self.held_out(*tokens.shape)
        return tokens[:-held], tokens[-held:]

    def held_out(self, sequences: int, seq_len: int) -> int:
        """How many sequences only score."""
        return max(1, min(self.scoring_tokens // seq_len, sequences // 4))

    def check_sequences(self, sequences: int) -> None:
        """Refuse a single one."""
        if sequences < 2:
            raise ComeError("There are no tokens to score on.", "Give at least two sequences: more or shorter ones.")


class FewTokensOptions(PassOptions):
    """Which part of the calibration tokens candidates are judged on, as papers do that score many."""

    sequences: int | None = Field(
        10, ge=1, description="How many calibration sequences candidates are judged on; empty for all."
    )
    seq_len: int | None = Field(128, ge=2, description="How many tokens of each of these; empty for all.")

    def few(self, tokens: Tensor) -> Tensor:
        """That part, int64 (sequences, tokens)."""
        return tokens[: self.sequences, : self.seq_len]

    def count(self, n_tokens: int) -> int:
        """How many of so many tokens that part has."""
        return min(n_tokens, self.sequences * self.seq_len) if self.sequences and self.seq_len else n_tokens


class RemovalOptions(MethodOptions):
    """What becomes of the layers beside those that a method removes."""

    refit: bool = Field(
        False,
        description="After a removal, adjusts the output weights of the layer below the gap by least squares, so that "
        "it gives on the calibration text what it and the removed layers gave together.",
    )

    @property
    def fits(self) -> Literal["refit", "tune"] | None:
        """A refit beside each gap."""
        return "refit" if self.refit else None

    def gaps(self, removed: int) -> int:
        """How many gaps so many removed layers may leave."""
        return removed


class NamedWindowsOptions(MethodOptions):
    """Windows by hand, in the place of a target."""

    windows: list[Window] | None = Field(
        None, description="Merge these windows of original layers, first and last, instead of choosing."
    )

    @property
    def instead_of_target(self) -> str | None:
        """Windows by hand."""
        return "windows" if self.windows is not None else None

    def target(self, model: Any, layers: int) -> int:
        """What windows by hand leave."""
        windows = check_windows(self.windows or [], layers)
        check_mixable(model, windows)
        return layers - merged_away(windows)


class ByHandOptions(NamedWindowsOptions):
    """Windows by hand, and layers that are taken out beside them."""

    drop: list[int] | None = Field(
        None, description="With windows by hand, original layers that are taken out after the merges."
    )

    @model_validator(mode="after")
    def _drop_goes_with_windows(self) -> Self:
        if self.windows is None and self.drop is not None:
            raise ComeError("Dropped layers go with windows by hand.", "Give windows as well, [] for none.")
        return self

    def target(self, model: Any, layers: int) -> int:
        """What windows by hand and dropped layers leave."""
        return super().target(model, layers) - len(check_dropped(self.drop or [], self.windows or [], layers))


class WindowOptions(NamedWindowsOptions):
    """How windows of layers are chosen, or which they are."""

    span: int = Field(2, ge=2, description="How many adjacent layers one step merges (m).")
    no_repeat: bool = Field(
        True, description="Layers that were merged before are not merged again until no others are left."
    )
    sbi_tokens: Literal["all", "last"] = Field(
        "all", description="Which tokens of each sequence the skip block influence is the mean of."
    )
    last_state: Literal["normed", "raw"] = Field(
        "normed", description="The last hidden state with or without the final norm."
    )

    @property
    def one_by_one(self) -> bool:
        """Longer windows may be shortened to meet a target."""
        return self.span == 2 and self.windows is None

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse a span that does not fit the model, and what windows of such layers cannot reach."""
        if self.windows is None:
            check_rules(self.span, layers, self.sbi_tokens, self.last_state)
            check_reach(model, layers, target, self.span)


Select = Literal["sbi", "kl", "loss", "removal-loss", "window-loss"]
"""By what windows are chosen: ``come.pruning.window_choice``."""
SCORING = 8  # of so many calibration sequences, one is scored on


class SelectionOptions(CachedPassOptions, WindowOptions):
    """How windows are chosen and merged by concatenation, whatever decides their ratio."""

    select: Select = Field(
        "sbi",
        description="What the next window is chosen by. sbi: the skip block influence. kl, loss: every window is "
        "merged, without a refit, and the cheapest is taken, by divergence from the original or by loss. removal-loss: "
        "the window that loses least when only one of its layers stays. window-loss: when none does. All but sbi take "
        "longer, and judge on the last eighth of the calibration sequences, at least one, which are not measured.",
    )
    sensitivity: Literal["magnitude", "fisher"] = Field(
        "magnitude",
        description="Which units are kept. magnitude: those of largest activations times weights. fisher: those whose "
        "silencing the loss answers most, by squared gradients; each measuring pass then takes about four times as "
        "long.",
    )
    refit: bool = Field(
        False,
        description="After each merge, adjusts the new layer's output weights by least squares on the calibration "
        "text.",
    )

    @model_validator(mode="after")
    def _select_goes_without_windows(self) -> Self:
        if self.windows is not None and self.select != "sbi":
            raise ComeError(
                "Windows by hand leave nothing to select.",
                "Set select to sbi, or have windows chosen by target_layers.",
            )
        return self

    @property
    def scores(self) -> bool:
        """Whether windows are chosen by what they cost on tokens that are not measured."""
        return self.select != "sbi"

    @property
    def fits(self) -> Literal["refit", "tune"] | None:
        """A refit of each merged layer."""
        return "refit" if self.refit else None

    @property
    def needs(self) -> tuple[str, ...]:
        """Logits for scores, and gradients for Fisher information."""
        if self.sensitivity == "fisher":
            return ("logits", "gradients")
        return ("logits",) if self.scores else ()

    def check_sequences(self, sequences: int) -> None:
        """Refuse a single sequence, of which none is left to measure."""
        if self.scores and sequences < 2:
            raise ComeError(
                f"To select windows by {self.select} takes two calibration sequences or more, of which the last ones "
                "are only scored on.",
                "Give more tokens or shorter sequences, or set select to sbi.",
            )

    def scoring_sequences(self, sequences: int) -> int:
        """How many of so many calibration sequences, the last ones, are scored on and not measured."""
        return max(1, sequences // SCORING) if self.scores else 0
