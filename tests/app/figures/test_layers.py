import itertools

import numpy as np
import pytest

from app import theme
from app.figures import layers, model, similarity

LAYERS = 12


@pytest.fixture
def matrix() -> np.ndarray:
    place = np.linspace(0, 1, LAYERS + 1)
    return np.exp(-np.abs(place[:, None] - place[None]))


@pytest.mark.parametrize("kind", list(similarity.KINDS))
def test_similarity_is_in_bytes_and_brighter_is_more_alike(matrix: np.ndarray, kind: str) -> None:
    shown = 1 - matrix if kind == "angular" else matrix
    figure = similarity.similarity(shown, kind=kind, best=(4, 5), selected=(2, 3), planned=[(7, 9)])
    levels = figure.data[0].z
    assert levels.dtype == np.uint8
    assert (np.diag(levels) == 255).all()
    assert levels[0, -1] == 0


def test_a_cell_opens_the_layers_between_its_two_states(matrix: np.ndarray) -> None:
    overlay = similarity.similarity(matrix).data[1]
    above, below = overlay.customdata[3 * (LAYERS + 1) + 8], overlay.customdata[8 * (LAYERS + 1) + 3]
    assert above[:2].tolist() == below[:2].tolist() == [3, 7]
    assert above[2] == matrix[3, 8]


def test_the_best_window_is_outlined_where_its_states_meet(matrix: np.ndarray) -> None:
    shapes = similarity.similarity(matrix, best=(4, 5)).layout.shapes
    assert {(shape.x0, shape.y0) for shape in shapes} == {(5.5, 3.5), (3.5, 5.5)}
    assert {shape.line.color for shape in shapes} == {theme.MARK}


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
    assert f"Layers 6 to {6 + span - 1}" in figure.layout.title.text
    middle = 6 + (span - 1) / 2
    bars = next(trace for trace in figure.data if trace.customdata is not None)
    assert bars.x[6] == middle
    assert bars.marker.color[6] == theme.MARK


def test_puzzle_shows_what_each_source_gives() -> None:
    figure = layers.puzzle(4, (0.25, 0.0, 0.75), (1, 0, 2), (384, 0, 1152), 30)
    assert [list(trace.text) for trace in figure.data] == [["384", "1"], ["", ""], ["1,152", "2"]]
    assert figure.data[2].marker.color == theme.layer_color(6, 30)
    assert "Layer 6 would give 75%" in figure.layout.title.text


@pytest.mark.parametrize("count", [1, 2, 30, 80])
def test_a_layer_has_one_colour_and_neighbours_differ(count: int) -> None:
    colors = [theme.layer_color(layer, count) for layer in range(count)]
    assert all(len(color) == 7 and color.startswith("#") for color in colors)
    assert all(a != b for a, b in itertools.pairwise(colors))


def test_parts_add_up_and_empty_ones_stay_out_of_the_legend() -> None:
    parts = {"embeddings": 50, "attention": 20, "feed-forward": 29, "norms": 1, "head": 0}
    figure = model.parameters_by_part(parts, 4)
    assert sum(trace.x[0] for trace in figure.data) == 100
    assert "49%" in figure.layout.title.text
    assert [trace.name for trace in figure.data if trace.showlegend][-1] == "norms 1%"


def test_figures_name_no_text_colour(matrix: np.ndarray) -> None:
    """The page colours text after the reader's theme: black on black otherwise."""
    figure = similarity.similarity(matrix, best=(4, 5))
    assert figure.layout.font.color is None
    assert figure.layout.title.font.color is None
    assert figure.layout.xaxis.title.font.color is None
