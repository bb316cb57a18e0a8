import itertools
import re

import numpy as np
import pytest

from app import theme
from app.figures import layers, model, similarity, window_costs
from come.models import describe
from come.pruning.windows import WindowCost

LAYERS = 12


@pytest.fixture
def matrix() -> np.ndarray:
    place = np.linspace(0, 1, LAYERS + 1)
    return np.exp(-np.abs(place[:, None] - place[None]))


@pytest.mark.parametrize("kind", list(similarity.KINDS))
def test_colours_are_stretched_over_the_windows_that_there_are(matrix: np.ndarray, kind: str) -> None:
    shown = 1 - matrix if kind == "angular" else matrix
    heat = similarity.similarity(shown, kind=kind, best=[(4, 5)], selected=(2, 3), planned=[(7, 9)]).data[0]
    assert heat.z.shape == (LAYERS, LAYERS) and np.isnan(heat.z[np.tril_indices(LAYERS, -1)]).all()
    assert heat.z[0, -1] == 0  # least alike, and brighter is more alike
    assert np.nanmax(heat.z) == heat.z[0, 0] == 255
    apart = heat.z[np.triu_indices(LAYERS)]
    assert 0.4 < (apart < 128).mean() < 0.6  # each half of the colours holds as many cells
    assert len(set(heat.colorbar.ticktext)) == 5


def test_states_that_are_nearly_alike_are_told_apart() -> None:
    near = 1 - np.abs(np.subtract.outer(np.arange(6), np.arange(6))) * 1e-5
    heat = similarity.similarity(near).data[0]
    assert heat.colorbar.ticktext[0] == "0.99995" and np.nanmax(heat.z) == 255
    same = similarity.similarity(np.ones((3, 3))).data[0]
    assert np.isfinite(same.z[np.triu_indices(2)]).all()


def test_the_matrix_names_the_marks_that_it_bears(matrix: np.ndarray) -> None:
    bare = similarity.similarity(matrix).layout.annotations[0].text
    assert similarity.READING in bare and "open window" not in bare and "least change" not in bare
    figure = similarity.similarity(matrix, best=[(4, 5)], selected=(2, 3), planned=[(7, 9)], plan="your plan")
    words = figure.layout.annotations[0].text
    for color, mark, name in (
        (similarity.OPEN, "□", "open window"),
        (similarity.PLANNED, "□", "your plan"),
        (theme.INK, "⬚", "least change of all pairs"),
    ):
        assert re.search(rf"<span style='color:{re.escape(color)};[^>]*>{mark}</span> {name}<br>", words)
    assert "your plan" not in similarity.similarity(matrix, selected=(2, 3)).layout.annotations[0].text


def test_a_layers_tile_stands_over_the_windows_that_it_ends(matrix: np.ndarray) -> None:
    block = np.geomspace(0.01, 1, LAYERS)
    figure = similarity.similarity(matrix, influence=block, selected=(2, 3), planned=[(7, 9)])
    strip, tiles = figure.data[2:]
    assert list(strip.x) == list(tiles.x) == list(range(LAYERS))
    assert list(strip.y) == list(block) and figure.layout.yaxis2.type == "log"
    assert any("block influence (BI)" in note.text for note in figure.layout.annotations)
    over = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.yref == "y3"]
    assert over == [(6.6, 9.4), (1.5, 3.5)]
    assert figure.layout.yaxis.domain[1] < figure.layout.yaxis3.domain[0] < figure.layout.yaxis2.domain[0]
    similarity.similarity(matrix, influence=np.zeros(LAYERS))  # a model that turns nothing


def test_a_cell_lies_at_its_first_and_last_layer_and_opens_them(matrix: np.ndarray) -> None:
    overlay = similarity.similarity(matrix).data[1]
    (place,) = (i for i, at in enumerate(zip(overlay.y, overlay.x, strict=True)) if at == (3, 7))
    assert overlay.customdata[place].tolist() == [3, 7, matrix[3, 8]] and overlay.text[place] == "Layers 3–7"
    assert all(first <= last for first, last in zip(overlay.y, overlay.x, strict=True))


@pytest.mark.parametrize("marked", [{"best"}, {"planned"}, {"selected"}, {"best", "planned"}, {"best", "selected"}])
@pytest.mark.parametrize("whole", [False, True])
def test_marks_of_one_cell_lie_round_each_other(matrix: np.ndarray, marked: set[str], whole: bool) -> None:
    marked = marked | {"planned", "selected"} if whole else marked
    given = {name: (2, 3) if name == "selected" else [(2, 3)] for name in marked}
    lines = similarity.similarity(matrix, **given).layout.shapes[1::2]
    sides = [line.x1 - line.x0 for line in lines]
    assert len(sides) == len(marked) and sides == sorted(sides)
    assert all(b - a > 0.7 for a, b in itertools.pairwise(sides)), "none covers another"


def test_a_window_that_runs_backwards_is_not_drawn(matrix: np.ndarray) -> None:
    figure = similarity.similarity(matrix, selected=(4, 2))
    assert not figure.layout.shapes and "open window" not in str(figure.layout.annotations)


def test_the_best_window_is_outlined_at_its_layers(matrix: np.ndarray) -> None:
    halo, outline = similarity.similarity(matrix, best=[(4, 5)]).layout.shapes
    assert (outline.x0, outline.y0) == (halo.x0, halo.y0) == (4.5, 3.5)
    assert outline.line.dash == "dot"


def test_the_open_window_and_the_plan_look_the_same_in_every_chart(matrix: np.ndarray) -> None:
    block, skip = np.linspace(0.1, 1, LAYERS), np.linspace(0.5, 0.9, LAYERS - 1)
    cost = WindowCost(2, 3, 0.2, 0.1, 0.3, 0.2, 2)
    charts = (
        similarity.similarity(matrix, influence=block, selected=(2, 3), planned=[(7, 9)]),
        layers.influence(block, skip, selected=(2, 3), planned=[(7, 9)]),
        window_costs.costs([cost], LAYERS, selected=(2, 3), planned=[(2, 3), (7, 9)]),
    )
    for figure in charts:
        looks = {color for shape in figure.layout.shapes for color in (shape.line.color, shape.fillcolor) if color}
        assert {similarity.OPEN, similarity.PLANNED} <= looks and similarity.OPEN != similarity.PLANNED
    both = similarity.similarity(matrix, best=[(2, 3)], selected=(2, 3)).layout.shapes
    inner, outer = (next(s for s in both if s.line.dash == "dot"), next(s for s in both if s.line.color == theme.MARK))
    assert outer.x0 < inner.x0 and outer.x1 > inner.x1, "neither hides the other"


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("span", [2, 4])
def test_influence_names_the_window_that_turns_least(span: int, log: bool) -> None:
    skip = np.linspace(0.5, 0.9, LAYERS - span + 1)
    skip[6] = 0.1
    block = np.linspace(0.1, 1, LAYERS)
    figure = layers.influence(
        block,
        skip,
        span=span,
        block_halves=np.stack([block, block]),
        skip_halves=np.stack([skip, skip]),
        planned=[(0, 1)],
        selected=(6, 6 + span - 1),
        log=log,
    )
    assert f"Layers 6–{6 + span - 1} " in figure.layout.title.text
    middle = 6 + (span - 1) / 2
    bars = next(trace for trace in figure.data if trace.customdata is not None)
    assert bars.x[6] == middle
    assert bars.marker.color[6] == theme.MARK


def test_puzzle_shows_what_each_source_gives() -> None:
    figure = layers.puzzle(4, (0.25, 0.0, 0.75), (1, 0, 2), (384, 0, 1152), 30, "CoMe")
    assert [[counts[0] for counts in trace.customdata] for trace in figure.data] == [[384, 1], [0, 0], [1152, 2]]
    assert figure.data[2].marker.color == theme.layer_color(6, 30)
    assert "CoMe: 75% of the FFN channels from layer 6" in figure.layout.title.text


def test_numbers_in_the_puzzle_stand_on_a_plain_patch_where_there_is_room() -> None:
    figure = layers.puzzle(4, (0.02, 0.23, 0.75), (1, 0, 2), (31, 353, 1152), 30, "CoMe", named=3)
    told = {(note.text.split(">")[1][: -len("</span")], note.y): note.bgcolor for note in figure.layout.annotations}
    colors = [theme.layer_color(layer, 30) for layer in (4, 5, 6)]
    assert told == {
        ("1", "KV groups"): colors[0],
        ("353", "FFN channels"): colors[1],
        ("1,152", "FFN channels"): colors[2],
        ("2", "KV groups"): colors[2],
    }


def test_a_narrow_puzzle_names_fewer_layers() -> None:
    parts = ((0.25,) * 4, (1,) * 4, (384,) * 4)
    wide, narrow = (layers.puzzle(4, *parts, 30, "CoMe", named=most) for most in (layers.NAMED, layers.NAMED_NARROW))
    assert wide.layout.showlegend and not narrow.layout.showlegend and narrow.layout.height < wide.layout.height
    named = [note.text for note in narrow.layout.annotations if note.text.startswith("layer")]
    assert named == ["layer 4", "layer 7"], "the ends, where there is no legend"


def test_neighbours_in_the_puzzle_stand_apart_and_every_second_is_dotted() -> None:
    figure = layers.puzzle(4, (0.25, 0.25, 0.5), (1, 1, 2), (384, 384, 768), 30, "CoMe")
    assert [trace.marker.pattern.shape for trace in figure.data] == ["", ".", ""]
    ends = [(trace.base[0], trace.base[0] + trace.x[0]) for trace in figure.data]
    assert ends[0][0] == 0 and ends[-1][1] == pytest.approx(1)
    assert [b[0] - a[1] for a, b in itertools.pairwise(ends)] == pytest.approx([layers.GAP] * 2)


@pytest.mark.parametrize("count", [1, 2, 30, 80])
def test_a_layer_has_one_colour_and_neighbours_differ(count: int) -> None:
    colors = [theme.layer_color(layer, count) for layer in range(count)]
    assert all(len(color) == 7 and color.startswith("#") for color in colors)
    assert all(a != b for a, b in itertools.pairwise(colors))


def test_the_bar_of_a_model_holds_all_its_parameters_and_each_layer_has_its_colour() -> None:
    parts = {"embeddings": 50, "attention": 20, "feed-forward": 29, "norms": 1, "head": 0}
    figure = model.parameters_by_part(parts, 4)
    assert sum(trace.x[0] for trace in figure.data) == 100
    assert "50%" in figure.layout.title.text
    layers = figure.data[1:5]
    assert [trace.marker.color for trace in layers] == [theme.layer_color(layer, 4) for layer in range(4)]
    assert {trace.x[0] for trace in layers} == {12.5}
    assert [note.text for note in figure.layout.annotations] == ["embeddings 50%", "4 layers 50%"]
    first = figure.layout.annotations[0]
    assert (first.x, first.xanchor) == (0, "left"), "within the chart, however narrow"


def test_a_layers_matrices_are_drawn_to_scale() -> None:
    facts = describe("smollm2-135m")
    assert sum(each.outputs * each.inputs for each in facts.matrices) + 2 * facts.hidden_size == facts.layer_parameters
    figure = model.one_layer(facts.matrices)
    drawn = [(max(trace.x) - min(trace.x), max(trace.y) - min(trace.y)) for trace in figure.data]
    assert np.allclose(drawn, [(each.inputs, each.outputs) for each in facts.matrices])
    ends = [(min(trace.x), max(trace.x)) for trace in figure.data]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends)), "beside each other"
    words = " ".join(note.text for note in figure.layout.annotations)
    assert "1,536<br>× 576" in words and "<b>attention</b> 25%" in words and "<b>feed-forward</b> 75%" in words, (
        "of the layer, not of the model"
    )
    assert "gate" in words


def test_figures_name_no_text_colour(matrix: np.ndarray) -> None:
    """The page colours text after the reader's theme: black on black otherwise."""
    figure = similarity.similarity(matrix, best=[(4, 5)])
    assert figure.layout.font.color is None
    assert figure.layout.title.font.color is None
    assert figure.layout.xaxis.title.font.color is None


def test_the_matrix_names_the_window_that_changes_least() -> None:
    matrix = np.eye(7) + 0.25

    def title(*best: tuple[int, int]) -> str:
        return str(similarity.similarity(matrix, best=best, selected=(1, 3)).layout.title.text)

    assert title((4, 5)) == "Of all pairs, 4–5 changes the state least: cosine 0.250"
    assert title((2, 5)) == "Of windows of 4 layers, 2–5 changes the state least: cosine 0.250"
    assert "least" not in title()
    assert title((4, 5), (2, 3)) == "Of all pairs, 4–5 and 2–3 change the state least: cosine 0.250 each"
    assert title((0, 1), (1, 2), (2, 3), (4, 5)) == (
        "Of all pairs, 4 change the state least, practically tied: cosine 0.250 each"
    )
    matrix[2, 4] = 0.2504
    assert title((2, 3), (4, 5)).endswith("cosine 0.250 each"), "the same to three decimals"
    matrix[2, 4] = 0.2546
    assert title((2, 3), (4, 5)).endswith("cosine 0.25 each"), "to two"
    matrix[2, 4] = 0.2756
    assert title((2, 3), (4, 5)).endswith("cosine 0.250 to 0.276"), "neither"


def test_what_changes_least_is_never_one_of_several_that_cannot_be_told_apart() -> None:
    states = np.eye(6)
    states[np.arange(4), np.arange(4) + 2] = [0.90, 0.9502, 0.9498, 0.93]  # windows of two layers
    assert similarity.least_changed(states, "cosine", 2) == [(1, 2), (2, 3)], "the same to three decimals"
    assert similarity.least_changed(states, "cosine", 2, (3, 1)) == [(1, 2), (2, 3), (3, 4)], "nor by the angle"
    assert similarity.least_changed(states, "cosine", 2, (3, 0)) == [(1, 2), (2, 3)], "the least is none of those"
    assert similarity.least_changed(states, "cka", 2, (3, 1)) == [(1, 2), (2, 3)], "which says nothing of the kernels"
    assert similarity.least_changed(-states, "angular", 2)[0] == (1, 2)


def test_windows_that_turn_the_state_as_little_are_told_beside_the_least() -> None:
    skip = np.array([0.30, 0.0957, 0.20, 0.0956, 0.0975])
    assert layers.finding(skip, None, 2).endswith("CoMe chooses; practically tied with 1–2"), "to three decimals"
    halves = np.stack([skip - 0.002, skip + 0.002])
    assert layers.tied(skip, halves) == [1], "both halves have the same order"
    halves[:, 4] = 0.093, 0.102
    assert layers.tied(skip, halves) == [1, 4], "one half has the other order"
    assert layers.finding(skip, halves, 3).startswith("Layers 3–5 turn") and "1–3 and 4–6" in layers.finding(
        skip, halves, 3
    )
    alike = layers.finding(np.full(5, 0.1), None, 2)
    assert alike.endswith("tied with 1–2 and 3 more")
    far = np.array([0.3, 0.1, 0.2])
    assert layers.finding(far, np.stack([far, far]), 2).endswith("by which CoMe chooses")
    title = layers.influence(np.array([0.3, 0.1, 0.2, 0.3]), far, skip_halves=np.stack([far, far])).layout.title.text
    assert title == layers.finding(far, np.stack([far, far]), 2)
