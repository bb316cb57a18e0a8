"""The verdict: true, short, and the answer first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from come.report import verdict
from come.report.measured import Result, Value
from tests.app.synthetic import result

ORIGINAL = [result("original", 30, 40.5)]
THREE = [result("come", 27, 59.6), result("shortgpt", 27, 55.6), result("random", 27, 90.0)]
MANY = ("shortgpt", "sleb", "deeper", "reverse", "magnitude", "taylor", "mka", "laco", "slm", "skip", "random")


def said(results: list[Result], originals: list[Result] = ORIGINAL) -> str:
    return " ".join(verdict.sentences(results, originals))


def many(come: dict[int, float], error: float | None = None) -> list[Result]:
    """CoMe beside eleven methods, the best of which has perplexity 50 at every size."""
    others = [result(method, layers, 50.0 + 10 * place, error) for place, method in enumerate(MANY) for layers in come]
    return [*[result("come", layers, value, error) for layers, value in come.items()], *others]


def test_of_few_methods_each_is_named() -> None:
    assert said(THREE) == (
        "At 27 layers CoMe has perplexity 59.6, ShortGPT 55.6, Random 90.0; the original has 40.5. "
        "On this text removal is better."
    )
    assert len(verdict.sentences(THREE, ORIGINAL)) == 2


@pytest.mark.parametrize(
    ("come_perplexity", "stderr", "words"),
    [
        (50.0, None, "On this text merging is better than removal."),
        (55.62, None, "On this text ShortGPT and CoMe come out even."),
        (54.0, 3.0, "On this text merging is better than removal, though the error bars overlap."),
    ],
)
def test_it_says_what_is_true(come_perplexity: float, stderr: float | None, words: str) -> None:
    assert said([result("come", 27, come_perplexity, stderr), result("shortgpt", 27, 55.6, stderr)]).endswith(words)


def test_a_merge_that_another_merge_beats_is_named() -> None:
    assert said([result("mka", 27, 50.0), result("come", 27, 60.0)]).endswith("On this text Mka is better.")
    assert said([result("random", 27, 50.0), result("come", 27, 60.0)]).endswith("On this text Random is better.")


def test_it_speaks_of_the_size_with_most_methods() -> None:
    assert said([*THREE, result("come", 29, 44.0)]).startswith("At 27 layers")
    assert "1.1 times the original's" in said([result("come", 29, 44.0)])
    assert said([], []) == "No finished run to compare yet."


def test_other_sizes_at_which_another_is_better_are_told() -> None:
    def pair(layers: int, come: float, shortgpt: float) -> list[Result]:
        return [result("come", layers, come), result("shortgpt", layers, shortgpt)]

    mild = pair(28, 45.0, 46.0)
    assert said([*mild, *pair(27, 60.0, 55.0), *pair(26, 80.0, 70.0)]).endswith(
        "On this text merging is better than removal; at 27 and 26 layers ShortGPT is better."
    )
    assert said([*mild, *pair(27, 60.0, 61.0), *pair(26, 80.0, 80.01)]).endswith("merging is better than removal.")
    several = [*mild, *pair(27, 60.0, 55.0), result("sleb", 26, 50.0), result("come", 26, 60.0)]
    assert said(several).endswith("; at 27 layers ShortGPT is better, at 26 layers SLEB.")
    sizes = [each for layers in range(20, 28) for each in pair(layers, 90.0, 80.0)]
    assert said([*mild, *sizes]).endswith("; at 8 other sizes ShortGPT is better.")


def test_seeds_are_told_by_their_mean() -> None:
    seeds = [result("come", 27, 60.0, seed=0), result("come", 27, 62.0, seed=1)]
    assert "CoMe has perplexity 61.0" in said([*seeds, result("shortgpt", 27, 80.0)])


def test_of_many_methods_comes_rank_and_the_best() -> None:
    words = verdict.sentences(many({27: 65.0, 24: 55.0, 21: 45.0}), ORIGINAL)
    assert words == [
        "CoMe is 3rd of 12 at 27 layers, 2nd at 24 and 1st at 21: dropping layers by ShortGPT is better at 27 and 24.",
        "Lowest perplexity: ShortGPT at 27 layers (50.0) and 24 (50.0), CoMe at 21 (45.0); the original has 40.5.",
    ]


def test_where_come_is_best_everywhere_that_is_the_answer() -> None:
    first = verdict.sentences(many({27: 45.0, 24: 45.0}), ORIGINAL)[0]
    assert first == "CoMe is 1st of 12 at 27 layers and 1st at 24: better than every way of dropping layers."


def test_where_come_is_never_best_no_sizes_are_needed() -> None:
    first = verdict.sentences(many({27: 65.0, 24: 65.0}), ORIGINAL)[0]
    assert first.endswith("dropping layers by ShortGPT is better.")


def test_overlapping_error_bars_are_told() -> None:
    second = verdict.sentences(many({27: 55.0, 24: 90.5}, error=3.0), ORIGINAL)[1]
    assert second.endswith("CoMe's error bars overlap the best's at 27.")
    leading = verdict.sentences(many({27: 48.0, 24: 30.0}, error=3.0), ORIGINAL)[1]
    assert leading.endswith("CoMe's error bars overlap the second's at 27.")


def test_of_many_sizes_only_the_span_is_told() -> None:
    words = verdict.sentences(many({29 - step: 45.0 + 5.5 * step for step in range(8)}), ORIGINAL)
    assert words[0].startswith("CoMe is 1st to 5th of 12 methods at 8 sizes from 29 to 22 layers")
    assert "ShortGPT at 7 of 8 sizes and CoMe at 1 of 8 sizes" in words[1]
    assert len(words) == 2
    worst = verdict.sentences(many({29 - step: 500.0 for step in range(8)}), ORIGINAL)
    assert worst[0].endswith("dropping layers by ShortGPT is better.")
    assert worst[1] == "Lowest perplexity: ShortGPT at all 8 sizes; the original has 40.5."


def test_many_methods_without_come_name_the_best() -> None:
    words = verdict.sentences([run for run in many({27: 45.0}) if run.method != "come"], ORIGINAL)
    assert words == ["Lowest perplexity: ShortGPT at 27 layers (50.0); the original has 40.5."]


def test_recovery_is_a_sentence_of_its_own_and_wins_nothing() -> None:
    plain = [result("come", 27, 60.0), result("shortgpt", 27, 55.0)]
    mended = replace(result("come", 27, 45.0), series="CoMe + refit", recovered=True)
    words = verdict.sentences([mended, *plain], ORIGINAL)
    assert words == [
        "At 27 layers CoMe has perplexity 60.0, ShortGPT 55.0; the original has 40.5.",
        "On this text removal is better.",
        "Recovery lowers perplexity: CoMe at 27 layers from 60.0 to 45.0.",
    ]
    worse = replace(mended, values={"perplexity": Value(61.5)})
    assert verdict.sentences([worse, *plain], ORIGINAL)[2] == (
        "Recovery raises perplexity: CoMe at 27 layers from 60.0 to 61.5."
    )
    several = [result("come", layers, 60.0) for layers in range(20, 26)]
    several += [
        replace(run, series="CoMe + refit", recovered=True, values={"perplexity": Value(45.0)}) for run in several
    ]
    assert verdict.sentences(several, ORIGINAL)[-1] == (
        "Recovery lowers the perplexity in 6 of 6 runs, at the median to 75% of what it was."
    )
    alone = verdict.sentences([mended], ORIGINAL)  # what it was before is not known
    assert alone[0].startswith("At 27 layers CoMe + refit has perplexity 45.0")


def test_retention_is_one_sentence() -> None:
    kept = {27: 0.92, 24: 0.714}
    runs = [result("come", layers, 60.0, retention=Value(share)) for layers, share in kept.items()]
    runs += [result("shortgpt", layers, 55.0, retention=Value(0.8)) for layers in kept]
    assert verdict.sentences(runs, ORIGINAL)[-1] == (
        "Of the accuracy above chance CoMe keeps 92% and 71% at 27 and 24 layers, "
        "the best of the others 80% (ShortGPT) and 80% (ShortGPT)."
    )


def test_accuracy_without_retention_tells_nothing() -> None:
    runs = [result("come", 27, 60.0, accuracy=Value(0.25))]
    assert verdict.sentences(runs, ORIGINAL)[-1].startswith("The original is not above chance")


def test_fifteen_methods_with_everything_take_three_sentences() -> None:
    runs = [
        result(f"method-{place}" if place else "come", layers, 50.0 + place, 2.0, retention=Value(0.5))
        for place in range(15)
        for layers in (27, 24, 21)
    ]
    words = verdict.sentences(runs, ORIGINAL)
    assert len(words) == 3 and len(" ".join(words)) < 450


def test_without_perplexity_accuracy_still_speaks() -> None:
    words = verdict.sentences([result("come", 27, retention=Value(0.9))], [result("original", 30)])
    assert words == [
        "These runs say nothing of perplexity.",
        "Of the accuracy above chance CoMe keeps 90% at 27 layers.",
    ]
