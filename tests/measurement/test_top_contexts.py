from __future__ import annotations

import pytest
import torch

from come.errors import ComeError
from come.measurement.top_contexts import top_contexts
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle, tiny_tokens


@pytest.mark.parametrize("family", CASES)
def test_the_loudest_tokens_are_those_of_the_whole_model(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(7, 16)
    before = weights_hash(bundle.model)
    seen: list[torch.Tensor] = []
    module = bundle.layers[3].get_submodule(bundle.family.ffn_output)
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        bundle.model(tokens, use_cache=False)
    handle.remove()
    values = seen[0].reshape(7, 16, -1)[..., 5].float().flatten()
    places = values.abs().topk(6).indices
    places = places[values[places] != 0]  # ReLU leaves some tokens at zero
    expected = values[places]
    found = top_contexts(bundle, tokens, 3, 5, count=6, batch_size=7)
    assert [(each.sequence, each.position) for each in found] == [divmod(place, 16) for place in places.tolist()]
    assert [each.activation for each in found] == pytest.approx(expected.tolist())
    assert weights_hash(bundle.model) == before


def test_batches_do_not_matter() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(6, 16)
    whole = top_contexts(bundle, tokens, 2, 1, count=5, batch_size=6)
    single = top_contexts(bundle, tokens, 2, 1, count=5, batch_size=1)
    assert [(each.sequence, each.position) for each in whole] == [(each.sequence, each.position) for each in single]


def test_layers_above_are_not_run() -> None:
    bundle = tiny_bundle()
    called = []
    handle = bundle.layers[3].register_forward_pre_hook(lambda *_: called.append(3))
    top_contexts(bundle, tiny_tokens(), 2, 0)
    handle.remove()
    assert not called


def test_the_text_around_is_the_sequence() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(3, 16)
    found = top_contexts(bundle, tokens, 0, 0, count=48, width=4)
    assert len(found) == 48  # every token once
    assert len({(each.sequence, each.position) for each in found}) == 48
    activations = [abs(each.activation) for each in found]
    assert activations == sorted(activations, reverse=True) and min(activations) >= 0
    for each in found:
        ids = tokens[each.sequence, max(0, each.position - 4) : each.position + 5]
        assert each.text_before + each.token + each.text_after == bundle.tokenizer.decode(ids)
        assert each.token


def test_ties_go_to_the_earlier_token() -> None:
    bundle = tiny_bundle()
    tokens = tiny_tokens(1, 16).repeat(4, 1)
    found = top_contexts(bundle, tokens, 1, 2, count=4, batch_size=4)
    assert [each.sequence for each in found] == [0, 1, 2, 3]
    assert len({each.position for each in found}) == 1


@pytest.mark.parametrize(
    ("layer", "channel", "words"), [(6, 0, "no layer 6"), (-1, 0, "no layer"), (0, 48, "channel 48")]
)
def test_what_is_not_there_is_refused(layer: int, channel: int, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        top_contexts(tiny_bundle(), tiny_tokens(), layer, channel)


def test_progress_is_told() -> None:
    events = []
    top_contexts(tiny_bundle(), tiny_tokens(4, 16), 0, 0, batch_size=2, on_progress=events.append)
    assert [event.step for event in events] == [1, 2]
