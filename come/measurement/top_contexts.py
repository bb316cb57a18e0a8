"""The tokens of a text at which one FFN channel is most active, with the text around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner, check_finite
from come.models import Bundle


@dataclass(frozen=True)
class Context:
    """A token at which a channel is active, with the text around it.

    Attributes:
        text_before, token, text_after: the token and its neighbours, as they read.
        activation: the value that enters the FFN's output map in that channel.
        sequence, position: which of the tokens it is.
    """

    text_before: str
    token: str
    text_after: str
    activation: float
    sequence: int
    position: int


@torch.inference_mode()
def top_contexts(
    bundle: Bundle,
    tokens: Tensor,
    layer: int,
    channel: int,
    count: int = 10,
    width: int = 12,
    *,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> list[Context]:
    """The tokens of largest absolute activation of a channel, largest first, earlier ones first on ties; none of zero.

    Only the layers up to that one are run, and no more than ``count`` values are held at a time.

    Args:
        bundle: the model; it is left as it was.
        tokens: int64 (sequences, tokens).
        layer, channel: which FFN channel.
        count: how many tokens at most.
        width: how many tokens of text on either side, within the sequence.
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each batch.

    Raises:
        ComeError: the model has no such layer or channel, or its values are not finite.
    """
    check_channel(bundle, layer, channel)
    runner = LayerRunner(bundle)
    seq_len = tokens.shape[1]
    best, places = torch.empty(0), torch.empty(0, dtype=torch.long)
    seen: list[Tensor] = []
    watched = {bundle.family.ffn_output: lambda inputs: seen.append(inputs[..., channel])}
    todo = list(batches(tokens, batch_size))
    begun = 0
    for batch in todo:
        hidden_states = runner.enter(batch.tokens)
        for below in range(layer):
            hidden_states = runner.run(below, hidden_states)
        with runner.watching(layer, watched):
            runner.run(layer, hidden_states)
        values = seen.pop().flatten().float().cpu()
        check_finite(values, runner)
        here = torch.arange(begun, begun + len(values))
        # Stable and in order of the text, so that ties go to the earlier token whatever the batches are.
        values = torch.cat([best, values])
        order = values.abs().sort(descending=True, stable=True).indices[:count]
        best, places = values[order], torch.cat([places, here])[order]
        begun += len(here)
        emit(on_progress, "contexts", batch.index + 1, len(todo), "Reading the text")
    return [
        _context(bundle.tokenizer, tokens[place // seq_len], place // seq_len, place % seq_len, width, value)
        for value, place in zip(best.tolist(), places.tolist(), strict=True)
        if value != 0
    ]


def check_channel(bundle: Bundle, layer: int, channel: int) -> None:
    """See that a model has an FFN channel.

    Raises:
        ComeError: it has no such layer, or the layer no such channel.
    """
    for name, asked, known in (("layer", layer, len(bundle.layers)), ("FFN channel", channel, bundle.shape.channels)):
        if not 0 <= asked < known:
            raise ComeError(f"The model has no {name} {asked}.", f"Give a number from 0 to {known - 1}.")


def _context(tokenizer: Any, sequence: Tensor, number: int, position: int, width: int, activation: float) -> Context:
    first = max(0, position - width)
    ids = sequence[first : position + width + 1].tolist()
    before, upto, whole = (
        tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False)
        for end in (position - first, position - first + 1, len(ids))
    )
    if whole.startswith(upto) and upto.startswith(before):
        # As pieces of one text: some tokenizers drop the space before what they decode alone.
        return Context(before, upto[len(before) :], whole[len(upto) :], activation, number, position)
    token, after = (
        tokenizer.decode(part, clean_up_tokenization_spaces=False)
        for part in (ids[position - first : position - first + 1], ids[position - first + 1 :])
    )
    return Context(before, token, after, activation, number, position)
