"""LaCo and SLM: the windows that a threshold leads to, by hand and by scoring whole models."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

import come
from come.models import Bundle
from come.pruning.collapse import SERIES, CollapseOptions, Similarity, Windows, cosines, summed_differences
from come.pruning.methods.laco import Walk, laco_windows
from come.pruning.methods.slm import slm_windows
from come.pruning.windows import Window
from come.transforms.rebuild import apply_step
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def told(scores: dict[Window, float], asked: list[Window]) -> float:
    def score(_taken: Windows, window: Window) -> float:
        asked.append(window)
        return scores[window]

    return score  # type: ignore[return-value]


def test_the_differences_are_added_to_the_first_layer() -> None:
    bundle = tiny_bundle("gpt2")
    step = summed_differences((1, 3))
    merged = apply_step(bundle, step).layers[1]
    first, *others = (bundle.layers[layer] for layer in (1, 2, 3))
    for name, value in merged.named_parameters():
        theta = first.get_parameter(name)
        expected = theta + sum(other.get_parameter(name) - theta for other in others)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    last = bundle.layers[3]
    assert not torch.allclose(merged.get_parameter("mlp.c_fc.weight"), last.get_parameter("mlp.c_fc.weight"), atol=0.01)


def test_laco_by_hand() -> None:
    asked: list[Window] = []
    scores = {(5, 7): 0.4, (4, 6): 0.6, (2, 4): 0.7, (3, 5): 0.5, (2, 3): 0.9, (6, 7): 0.51}
    score = told(scores, asked)
    # The top three are too unlike; the next three merge, and two layers lower three more.
    assert laco_windows(8, 4, 0.5, score, Walk(3, 2)) == ((4, 6), (2, 4))
    assert asked == [(5, 7), (4, 6), (2, 4)]
    # With an interval of 1 the next window starts a layer higher; a similarity of the threshold itself is too low.
    assert laco_windows(8, 4, 0.5, score, Walk(3, 1)) == ((4, 6), (2, 4))
    assert asked[3:] == [(5, 7), (4, 6), (3, 5), (2, 4)]
    # One layer short of the target, the window is a pair; one layer from the start, so is the first.
    assert laco_windows(8, 5, 0.5, score, Walk(3, 2)) == ((4, 6), (2, 3))
    assert laco_windows(8, 7, 0.5, score, Walk(3, 2)) == ((6, 7),)
    # No window is alike enough: the walk ends at the bottom.
    assert laco_windows(4, 2, 0.9, lambda *_: 0.5, Walk(2, 2)) == ()


def test_laco_starts_over_only_when_every_merge_is_accepted() -> None:
    def alike(_taken: Windows, _window: Window) -> float:
        return 0.5

    assert laco_windows(4, 1, 0.4, alike, Walk(2, 3)) == ((2, 3),)
    assert laco_windows(4, 1, -math.inf, alike, Walk(2, 3)) == ((2, 3), (1, 2), (0, 1))


def test_slm_by_hand() -> None:
    asked: list[Window] = []
    scores = {(5, 6): 0.9, (4, 6): 0.8, (3, 6): 0.4, (2, 3): 0.3, (1, 2): 0.6, (0, 2): 0.55}
    # The window grows to three layers; the one it stops at merges with none below; the next window grows to the bottom.
    assert slm_windows(6, 4, 0.5, told(scores, asked)) == ((4, 6), (0, 2))
    assert asked == list(scores)
    assert slm_windows(6, 3, 0.5, told(scores, [])) == ((4, 6), (1, 2)), "stops at the target"
    assert slm_windows(6, 1, 0.5, told(scores, [])) == ((5, 6),)
    assert slm_windows(6, 4, 0.7, told({**scores, (0, 1): 0.1}, [])) == ((4, 6),)


def whole_model(bundle: Bundle, kind: str, taken: Windows, window: Window) -> float:
    """The similarity by the models' own forward."""
    merged = bundle
    for each in (*taken, window):
        merged = apply_step(merged, summed_differences(each))
    with torch.inference_mode():
        states = [
            each.model(TOKENS[:4, :12], output_hidden_states=True, use_cache=False).hidden_states[-1].double()
            for each in (bundle, merged)
        ]
    found = []
    for a, b in zip(*states, strict=True):
        if kind == "sequence":
            found.append(a.flatten() @ b.flatten() / (a.norm() * b.norm()))
        else:
            by_token = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
            found.append(by_token.mean() if kind == "all" else by_token[-1])
    return float(torch.stack(found).mean())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "falcon", "glm4", "cohere"])
@pytest.mark.parametrize(("method", "kind"), [("laco", "sequence"), ("slm", "all"), ("laco", "last")])
def test_the_windows_are_those_of_scoring_whole_models(method: str, family: str, kind: str) -> None:
    bundle = tiny_bundle(family)
    options = {"similarity": kind, "sequences": 4, "seq_len": 12, "batch_size": 3}
    result = come.compress(bundle, TOKENS, method, target_layers=3, **options)
    searches = {
        "laco": partial(laco_windows, 6, 3, walk=Walk(4, 2)),
        "slm": partial(slm_windows, 4, 3),
    }
    score = partial(whole_model, bundle, kind)
    for threshold in (*SERIES, -math.inf):
        expected = searches[method](threshold, score)
        if sum(last - first for first, last in expected) == 3:
            break
    assert result.plan.steps == [summed_differences(window) for window in expected]
    named = "no threshold" if threshold == -math.inf else f"{threshold:.2f} is the largest"
    assert named in result.plan.notes[0]


def test_similarities_are_remembered_and_hold_on_any_path() -> None:
    bundle = tiny_bundle()
    similarity = Similarity(bundle, TOKENS[:4, :12], CollapseOptions(batch_size=3))
    for taken, window in [
        ((), (4, 5)),
        (((3, 5),), (1, 2)),
        (((3, 5), (1, 2)), (0, 1)),
        (((4, 5),), (3, 4)),
        ((), (0, 1)),
    ]:
        expected = whole_model(bundle, "sequence", taken, window)
        assert similarity(taken, window) == pytest.approx(expected, abs=1e-5)
    assert len(similarity.found) == 5
    assert similarity((), (4, 5)) == similarity.found[(), (4, 5)]


def test_a_threshold_that_is_out_of_reach_is_lowered_and_noted() -> None:
    bundle = tiny_bundle()
    auto = come.compress(bundle, TOKENS, "laco", target_layers=3)
    given = come.compress(bundle, TOKENS, "laco", target_layers=3, threshold=0.99)
    low = come.compress(bundle, TOKENS, "laco", target_layers=3, threshold=-1.0, window=3)
    assert given.plan.steps == auto.plan.steps
    assert "Of the thresholds 0.95" in auto.plan.notes[0]
    assert "The threshold 0.99 leaves" in given.plan.notes[0]
    assert low.plan.notes == ["Threshold -1.00, as given."]


def test_cosines_by_hand() -> None:
    a = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    b = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    assert cosines(a, b, "sequence").tolist() == pytest.approx([1 / 5])
    assert cosines(a, b, "all").tolist() == pytest.approx([0.5])
    assert cosines(a, b, "last").tolist() == pytest.approx([0.0])
