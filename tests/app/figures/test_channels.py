import json

import numpy as np
import pytest

from app.figures import channel_findings, channels, heads, one_layer


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).lognormal(size=(32, 11008)).astype(np.float32)


def test_bins_keep_every_single_channel_spike(values: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    spikes = [(int(generator.integers(32)), int(generator.integers(11008))) for _ in range(20)]
    for layer, channel in spikes:
        values[layer, channel] = 1e4
    bins = channels.bin_by_maximum(values, 0, 11007)
    assert bins.values.shape == (32, channels.MAX_BINS)
    for layer, channel in spikes:
        place = np.searchsorted(bins.edges, channel, side="right") - 1
        assert bins.values[layer, place] == np.float32(1e4)
    peaks = {(layer, int(peak)) for layer in range(32) for peak in bins.peaks[layer][bins.values[layer] > 9e3]}
    assert peaks <= set(spikes)


@pytest.mark.parametrize(("first", "last"), [(0, 11007), (5, 5), (100, 399), (11000, 11007), (3, 1390)])
def test_bins_cover_exactly_the_channels_asked_for(values: np.ndarray, first: int, last: int) -> None:
    bins = channels.bin_by_maximum(values, first, last)
    assert bins.edges[0] == first
    assert bins.edges[-1] == last + 1
    assert (np.diff(bins.edges) > 0).all()
    assert bins.values.max() == values[:, first : last + 1].max()
    assert (np.take_along_axis(values, bins.peaks, axis=1) == bins.values).all()


def test_few_channels_are_not_binned(values: np.ndarray) -> None:
    bins = channels.bin_by_maximum(values, 10, 200)
    assert (bins.values == values[:, 10:201]).all()


@pytest.mark.parametrize("view", ["percentile", "raw", "sorted"])
@pytest.mark.parametrize("log", [True, False])
def test_heatmap_is_small_and_its_colours_are_bytes(values: np.ndarray, view: channels.View, log: bool) -> None:
    figure = channels.heatmap(values, view=view, log=log, selected=3, channel=7, kept=values > 1)
    assert figure.data[0].z.dtype == np.uint8
    assert len(figure.to_json()) < 2_000_000


def test_a_point_says_which_layer_and_channels_it_stands_for(values: np.ndarray) -> None:
    overlay = channels.heatmap(values, view="raw").data[1]
    layer, first, last, peak, value, _ = overlay.customdata[channels.MAX_BINS * 7 + 100]
    assert layer == 7
    assert first <= peak <= last
    assert value == values[7, int(first) : int(last) + 1].max()
    assert overlay.hoverinfo != "skip"  # that would take away its clicks
    assert overlay.marker.opacity == 0


def test_sorted_ranks_are_as_wide_on_the_axis_and_name_their_channels(values: np.ndarray) -> None:
    figure = channels.heatmap(values, view="sorted")
    bins = channels.bin_by_maximum(-np.sort(-values, axis=1), 0, 11007, log=True)
    assert bins.edges[:4].tolist() == [0, 1, 2, 3] and bins.edges[-1] == 11008
    widths = np.diff(np.log10(bins.edges[bins.edges > 500] + 1))
    assert widths.max() < 1.4 * widths[:-1].min()
    assert list(figure.data[0].x) == pytest.approx(np.log10(bins.edges + 1))
    loudest = figure.data[1].customdata[:, 1] == 1  # the first rank's bin, in every layer
    named = {(int(row[0]), int(row[3])) for row in figure.data[1].customdata[loudest]}
    assert named == {(layer, int(channel)) for layer, channel in enumerate(values.argmax(axis=1))}


@pytest.mark.parametrize("view", ["sorted", "raw"])
def test_a_click_anywhere_finds_a_point(values: np.ndarray, view: channels.View) -> None:
    for first, last in ((0, 11007), (0, 2), (40, 60)):
        figure = channels.heatmap(values, view=view, first=first, last=last)
        places = np.unique(figure.data[1].x[figure.data[1].y == 0])
        low, high = figure.layout.xaxis.range
        gaps = np.diff([low, *places, high])
        assert gaps.max() <= (high - low) / channels.POINTS * 1.01


@pytest.mark.parametrize("view", ["sorted", "raw", "percentile"])
@pytest.mark.parametrize("place", [0, 17, 11007])
def test_a_place_on_the_axis_is_found_again(view: channels.View, place: int) -> None:
    x = float(channels.axis_place(np.array(place), view))
    assert channels.place_at(x, view, 11008) == place
    assert channels.place_at(-1e9, view, 11008) == 0 and channels.place_at(1e9, view, 11008) == 11007
    assert channels.place_at(-np.inf, view, 8) == 0 and channels.place_at(np.inf, view, 8) == 7


@pytest.mark.parametrize("view", ["sorted", "raw"])
def test_dropped_channels_are_hatched_on_the_map(view: channels.View) -> None:
    values = np.tile(np.arange(100, 0, -1, dtype=np.float32), (4, 1))  # loudest first in either view
    kept = np.ones((4, 100), dtype=bool)
    kept[1, 50:] = False
    kept[3] = False
    figure = channels.heatmap(values, view=view, kept=kept)
    hatching = figure.data[2]
    assert hatching.z.dtype == np.uint8
    layers = hatching.z.reshape(4, channels.HATCH_ROWS, -1)
    assert not layers[[0, 2]].any() and layers[3].all() and set(np.unique(layers[3])) == {1, 2}
    middle = float(channels.axis_place(np.array(49.5), view))
    assert ((hatching.x > middle) == layers[1, 0].astype(bool)).mean() > 0.99
    told = {(row[0], row[3]): row[5] for row in figure.data[1].customdata}
    assert told[1, 10] == 1 and told[1, 90] == told[3, 0] == 0
    assert "kept" in figure.data[1].hovertemplate
    assert len(channels.heatmap(values, view=view, kept=np.ones_like(kept)).data) == 2


def test_percentiles_rank_within_the_layer() -> None:
    found = channels.percentiles(np.array([[3.0, 1.0, 2.0, 9.0], [1e6, 1e3, 1e9, 1.0]]))
    assert found.tolist() == [[0.5, 0.0, 0.25, 0.75], [0.5, 0.25, 0.75, 0.0]]


def test_the_loudest_channel_is_brightest_in_every_layer(values: np.ndarray) -> None:
    levels = channels.heatmap(values * np.arange(1, 33)[:, None] ** 3, view="percentile").data[0].z
    assert (levels.max(axis=1) == 255).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("view", ["percentile", "raw", "sorted"])
def test_a_model_whose_channels_are_all_alike_is_drawn(value: float, view: channels.View) -> None:
    flat = np.full((2, 8), value, dtype=np.float32)
    for log in (True, False):
        json.loads(channels.heatmap(flat, view=view, log=log).to_json())
    heads.heads(flat, 4)
    one_layer.sorted_curve(flat[0], layer=0, layers=2, kept=4)
    one_layer.distribution(flat[0], layer=0, layers=2)


def test_the_title_tells_the_finding() -> None:
    values = np.ones((4, 100), dtype=np.float32)
    values[2, 17] = 99.0
    assert channel_findings.concentration(values).startswith("Layer 2 is the most concentrated")
    assert "50%" in channel_findings.concentration(values)


def test_each_view_has_a_title_of_what_it_draws() -> None:
    values = np.ones((20, 100), dtype=np.float32)
    values[2, 17] = 99.0  # most concentrated
    values[7] = 6.0  # brightest
    titles = {view: channels.heatmap(values, view=view) for view in ("sorted", "raw", "percentile")}
    assert titles["raw"].layout.title.text.startswith("Layer 7 is the brightest")
    assert "6.0 ×" in titles["raw"].layout.title.text and "top 1%" not in titles["raw"].layout.title.text
    bold = {
        view: [text for text in figure.layout.yaxis.ticktext or () if "<b>" in text] for view, figure in titles.items()
    }
    assert bold == {"sorted": ["<b>2</b>"], "raw": ["<b>7</b>"], "percentile": []}


def test_the_title_speaks_of_the_open_layer_first() -> None:
    values = np.ones((5, 100), dtype=np.float32)
    values[2, 17] = 99.0  # most concentrated
    values[3] = 6.0  # brightest
    said = {view: channels.heatmap(values, view=view, selected=1).layout.title.text for view in ("sorted", "raw")}
    assert said["sorted"].startswith("In layer 1, the top 1% of FFN channels carry 1% ")
    assert said["sorted"].endswith("in layer 2, the most concentrated, 50%")
    assert said["raw"].startswith("In layer 1, the mean S of FFN channels is 1.0 ×")
    assert said["raw"].endswith("in layer 3, the brightest, 6.0\N{NO-BREAK SPACE}×")
    for view, layer in (("sorted", 2), ("raw", 3)):
        itself = channels.heatmap(values, view=view, selected=layer).layout.title.text
        assert itself.startswith(f"Layer {layer} is the ")


def test_kept_and_dropped_channels_are_told_apart() -> None:
    values = np.linspace(1, 100, 100, dtype=np.float32)
    kept = np.arange(100) >= 60
    histogram = one_layer.distribution(values, layer=1, layers=4, kept=kept)
    assert {trace.name: sum(trace.y) for trace in histogram.data} == {"kept": 40, "dropped": 60}
    assert histogram.data[1].marker.pattern.shape == "/"
    curve = one_layer.sorted_curve(values, layer=1, layers=4, kept=40)
    lines = [trace for trace in curve.data if trace.mode == "lines"]
    assert [max(trace.x) for trace in lines] == [40, 100]
    (half,) = [trace for trace in curve.data if trace.mode != "lines"]
    ordered = -np.sort(-values)
    assert ordered[: half.x[0]].sum() >= ordered.sum() / 2 > ordered[: half.x[0] - 1].sum()
    assert half.text[0] == f"half: {half.x[0]}" and curve.layout.title.text.startswith(f"{half.x[0]} of 100")


def test_heads_of_dropped_groups_are_hatched() -> None:
    figure = heads.layer_heads(np.arange(1.0, 7), np.array([1.5, 3.5, 5.5]), layer=0, layers=2, kept_groups=[0, 2])
    assert list(figure.data[0].marker.pattern.shape) == ["", "", "/", "/", "", ""]
    assert "KV group 2" in figure.layout.title.text


def test_dividers_part_the_heads_that_are_in_sight(values: np.ndarray) -> None:
    figure = channels.heatmap(values[:, :512], view="raw", group_size=128, first=100, last=300)
    assert [shape.path for shape in figure.layout.shapes] == ["M127.5,-0.5V31.5M255.5,-0.5V31.5"]
    assert not channels.heatmap(values[:, :512], view="raw", group_size=128, first=0, last=100).layout.shapes
    assert len(channels.heatmap(values[:, :512], group_size=128, view="sorted").layout.shapes) == 1  # the loudest 1%


def test_dividers_part_the_kv_groups() -> None:
    relative = np.random.default_rng(0).random((4, 6))
    assert heads.heads(relative, 3).layout.shapes[0].path == "M1.5,-0.5V3.5M3.5,-0.5V3.5"
    assert not heads.heads(relative, 6).layout.shapes
