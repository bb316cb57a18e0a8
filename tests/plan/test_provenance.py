"""Where units come from and where they went: agrees with a plain way to tell, for any plan."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from come.errors import ComeError
from come.plan.agreement import agreement
from come.plan.plan import Base, Plan
from come.plan.provenance import follow, mixing, retouched, rewritten, units_of
from come.plan.steps import Average, Concatenate, Mask, Part, Remove, Replace, Scale
from come.plan.trace import asked, trace
from tests.plan.slow_interpreter import read_again

CHANNELS, GROUPS = 6, 3


def plan_of(layers: int, *steps: object) -> Plan:
    base = Base(source="m", fingerprint="f", model_type="llama", layers=layers, parameters=1000)
    return Plan(base=base, dtype="float32", method="come", steps=list(steps))


def split(draw: st.DrawFn, size: int, units: int) -> list[list[int]]:
    """Units kept of each layer of a window, as many in all as one layer has."""
    cuts = sorted(draw(st.lists(st.integers(0, units), min_size=size - 1, max_size=size - 1)))
    counts = [high - low for low, high in pairwise([0, *cuts, units])]
    return [sorted(draw(st.permutations(range(units)))[:count]) for count in counts]


@st.composite
def plans(draw: st.DrawFn, kinds: tuple[str, ...] = ("concatenate", "remove", "average")) -> Plan:
    layers = draw(st.integers(3, 8))
    steps: list[object] = []
    left = layers
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(kinds))
        if left < 3:
            break
        if kind == "remove":
            gone = draw(st.integers(0, left - 1))
            steps.append(Remove(layers=[gone]))
            left -= 1
            continue
        first = draw(st.integers(0, left - 2))
        last = draw(st.integers(first + 1, min(first + 3, left - 1)))
        size = last - first + 1
        if kind == "average":
            mixed, alone = [2.0 - size, *[1.0] * (size - 1)], [*[0.0] * (size - 1), 1.0]
            steps.append(Average(window=(first, last), weights=draw(st.sampled_from([mixed, alone]))))
        else:
            kept = split(draw, size, CHANNELS), split(draw, size, GROUPS)
            shares = [1 / size] * size
            steps.append(Concatenate(window=(first, last), ratio=shares, channels=kept[0], kv_groups=kept[1]))
        left -= size - 1
    if draw(st.booleans()):
        masked = draw(st.dictionaries(st.integers(0, left - 1), st.sets(st.integers(0, CHANNELS - 1), min_size=1)))
        if masked:
            units = {layer: sorted(each) for layer, each in masked.items()}
            steps.append(Mask(channels=units, parameters=1))
    return plan_of(layers, *steps)


PARTS: list[tuple[Part, int]] = [("ffn", CHANNELS), ("attention", GROUPS)]


@settings(deadline=None)
@given(plans())
def test_shares_sum_to_one_in_every_state(plan: Plan) -> None:
    for part, units in PARTS:
        origins = follow(plan, part, units)
        assert len(origins.states) == len(plan.steps) + 1
        for state in origins.states:
            for layer in state:
                assert np.isclose(sum(piece.share for piece in layer.pieces), 1)
                assert mixing(layer.pieces) >= 0
        assert [list(layer.group) for layer in origins.final] == plan.groups()
        assert 0 <= origins.most_mixed() < plan.layers


@settings(deadline=None)
@given(plans())
def test_layers_and_units_agree_with_a_second_reading_of_the_steps(plan: Plan) -> None:
    made = read_again(plan, GROUPS, CHANNELS)
    assert plan.groups() == made.groups
    for part, units, expected in (("ffn", CHANNELS, made.channels), ("attention", GROUPS, made.kv_groups)):
        origins = follow(plan, part, units)  # type: ignore[arg-type]
        rows = [[divmod(int(code), units) if code >= 0 else None for code in row] for row in origins.rows]
        assert rows == expected
        there = {unit for row in expected for unit in row if unit is not None}
        kept = {(layer, int(unit)) for layer in range(plan.base.layers) for unit in np.nonzero(origins.kept(layer))[0]}
        assert kept == there


@settings(deadline=None)
@given(plans())
def test_every_unit_traced_alone_agrees_with_all_followed_together(plan: Plan) -> None:
    for part, units in PARTS:
        origins = follow(plan, part, units)
        for layer in range(plan.base.layers):
            for unit in range(units):
                found = trace(plan, part, layer, unit)
                if origins.averaged[layer, unit]:
                    continue  # as one of several it may still be dropped later, which trace alone follows
                lost = int(origins.lost[layer, unit])
                assert (found.fate == "kept") == (lost < 0)
                if lost >= 0:
                    assert found.step == lost
                    expected = {"concatenate": "dropped", "average": "dropped", "remove": "removed", "mask": "silenced"}
                    assert found.fate == expected[plan.steps[lost].kind]
                else:
                    assert found.new_layer is not None and found.position is not None
                    assert origins.rows[found.new_layer][found.position] == layer * units + unit
                    assert origins.places(found.new_layer, layer)[unit] == found.position


def test_losses_are_told_by_step() -> None:
    first = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[0], [1, 2]], channels=[[0, 1, 2], [3, 4, 5]])
    again = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[0], [0, 1]], channels=[[0, 3], [0, 1, 2, 3]])
    origins = follow(plan_of(5, first, again, Remove(layers=[2])), "ffn", CHANNELS)
    assert [(loss.step, loss.count) for loss in origins.losses(1)] == [(0, 3), (1, 2)]
    assert [(loss.kind, loss.count) for loss in origins.losses(4)] == [("remove", 6)]
    assert origins.losses(0) == []
    assert [(piece.source, piece.count) for piece in origins.final[1].pieces] == [(1, 1), (2, 1), (3, 4)]
    assert origins.most_mixed() == 1
    assert origins.new_layer_of(3) == 1 and origins.new_layer_of(4) is None
    assert origins.states[2][1].parents == (1, 2)


def test_weights_of_averages_are_followed_through_averages() -> None:
    plan = plan_of(4, Average(window=(0, 1), weights=[0.25, 0.75]), Average(window=(0, 1), weights=[-1.0, 2.0]))
    origins = follow(plan, "ffn", CHANNELS)
    found = {piece.source: piece.weight for piece in origins.final[0].pieces}
    assert found == pytest.approx({0: -0.25, 1: -0.75, 2: 2.0})
    assert all(piece.kind == "averaged" for piece in origins.final[0].pieces)
    assert trace(plan, "ffn", 1, 3).fate == "averaged"


def test_silenced_units_stay_as_places() -> None:
    plan = plan_of(3, Mask(channels={1: [0, 5]}, kv_groups={2: [0, 1, 2]}, parameters=1))
    origins = follow(plan, "ffn", CHANNELS)
    assert [(piece.kind, piece.count) for piece in origins.final[1].pieces] == [("kept", 4), ("silenced", 2)]
    whole = follow(plan, "attention", GROUPS).final[2].pieces
    assert [(piece.kind, piece.share) for piece in whole] == [("silenced", 1.0)]
    assert origins.most_mixed() == 1
    assert trace(plan, "ffn", 1, 5).fate == "silenced"


def test_the_size_of_a_layer_is_read_off_the_merges_or_the_model() -> None:
    merge = Concatenate(window=(0, 1), ratio=[0.5, 0.5], kv_groups=[[0], [1, 2]], channels=[[0, 1], [2]])
    assert units_of(plan_of(3, merge), "ffn") == 3
    assert units_of(plan_of(3, Remove(layers=[1])), "attention") == 1
    with pytest.raises(ComeError, match="not known"):
        units_of(plan_of(3, Mask(channels={0: [1]}, parameters=1)), "ffn")


def test_a_plan_of_another_shape_is_refused() -> None:
    with pytest.raises(ComeError, match="does not have"):
        follow(plan_of(3, Mask(channels={0: [99]}, parameters=1)), "ffn", CHANNELS)


def test_replaced_weights_follow_their_layer() -> None:
    put = Replace(
        file="w.safetensors", sha256="0", tensors=["model.layers.3.mlp.down_proj.weight", "model.norm.weight"]
    )
    plan = plan_of(6, put, Remove(layers=[0]), Average(window=(2, 3), weights=[0.5, 0.5]), put)
    assert retouched(plan) == {2: [0], 3: [3]}
    assert rewritten(plan) == [[3], [], [], [3]]
    words = [words for words in plan.in_words() if words.startswith("Put")]
    assert words[0] == "Put weights of layer 3 in place: 2 tensors of w.safetensors."
    assert words[1].startswith("Put weights of layer 5 in place"), "as the original numbers it"
    merged = plan_of(
        6, Average(window=(2, 3), weights=[0.5, 0.5]), put.model_copy(update={"tensors": ["m.2.w", "m.9.w"]})
    )
    assert merged.in_words()[1].startswith("Put weights of layers 2 and 3 in place: 2 tensors")
    scaled = plan_of(3, Scale(layer=1, factor=0.5), put.model_copy(update={"tensors": ["lm_head.weight"]}))
    assert rewritten(scaled) == [[1, 2], []] and scaled.in_words()[1].startswith("Put weights of the model in place")


def test_where_layers_were_removed_the_layer_before_them_is_the_one_to_open() -> None:
    assert follow(plan_of(6, Remove(layers=[3, 4])), "ffn", CHANNELS).most_mixed() == 2
    assert follow(plan_of(6, Remove(layers=[0])), "ffn", CHANNELS).most_mixed() == 0
    assert follow(plan_of(6), "ffn", CHANNELS).most_mixed() == 0


def test_a_large_model_is_followed_in_no_time() -> None:
    plan = large_plan()
    begun = time.perf_counter()
    origins = follow(plan, "ffn", 11008)
    assert time.perf_counter() - begun < 2
    assert len(origins.final) == 24


def large_plan() -> Plan:
    """A 7B-sized plan: 32 layers of 11,008 channels and 32 KV groups become 24, one merge at a time."""
    generator = np.random.default_rng(0)
    steps = []
    for number in range(8):
        first = int(generator.integers(0, 31 - number))
        kept = []
        for units in (11008, 32):
            part = int(generator.integers(1, units))
            kept.append([sorted(generator.permutation(units)[:count].tolist()) for count in (part, units - part)])
        steps.append(Concatenate(window=(first, first + 1), ratio=[0.5, 0.5], channels=kept[0], kv_groups=kept[1]))
    return plan_of(32, *steps)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("layer 12 channel 345", (12, 345)),
        ("12 345", (12, 345)),
        ("L12, C1,345", (12, 1345)),
        ("layer 12", None),
        ("", None),
        ("1 2 3", None),
    ],
)
def test_a_unit_is_asked_for_in_words_or_numbers(text: str, found: tuple[int, int] | None) -> None:
    assert asked(text) == found


def test_agreement_of_kept_sets() -> None:
    def merge(kept: list[list[int]]) -> Plan:
        step = Concatenate(window=(0, 1), ratio=[0.5, 0.5], kv_groups=[[0], [1, 2]], channels=kept)
        return plan_of(4, step, Remove(layers=[2]))

    one = follow(merge([[0, 1, 2], [0, 1, 2]]), "ffn", CHANNELS)
    other = follow(merge([[2, 3, 4], [0, 1, 2]]), "ffn", CHANNELS)
    found = agreement(one, other)
    assert found.jaccard.tolist()[:3] == [0.2, 1.0, 1.0] and np.isnan(found.jaccard[3])
    assert found.touched.tolist() == [True, True, False, True]
    assert found.chosen.tolist() == [True, True, False, False]
    half = agreement(one, follow(plan_of(4, Remove(layers=[0])), "ffn", CHANNELS))
    assert not half.chosen.any() and np.isnan(half.mean)
    assert np.allclose(half.jaccard[:3], half.chance[:3]), "by construction"
    assert found.mean == pytest.approx(0.6)
    assert found.chance[0] == pytest.approx(1 / 3)
    same = agreement(one, one)
    assert same.mean == 1.0
    averaged = follow(plan_of(4, Average(window=(0, 1), weights=[0.5, 0.5])), "ffn", CHANNELS)
    assert np.isnan(agreement(one, averaged).jaccard[:2]).all()


@settings(deadline=None)
@given(plans(), st.data())
def test_agreement_is_between_nothing_and_all(plan: Plan, data: st.DataObject) -> None:
    one = follow(plan, "ffn", CHANNELS)
    other = follow(data.draw(plans().filter(lambda p: p.base.layers == plan.base.layers)), "ffn", CHANNELS)
    found, back = agreement(one, other), agreement(other, one)
    known = found.jaccard[~np.isnan(found.jaccard)]
    assert ((known >= 0) & (known <= 1)).all()
    assert np.array_equal(found.jaccard, back.jaccard, equal_nan=True)
