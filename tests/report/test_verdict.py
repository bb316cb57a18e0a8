"""The verdict: of what the chart shows, with its error, the answer first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from come.report import verdict
from come.report.measured import Result, Value
from come.report.metrics import PARAMETERS, SPARSITY, metric
from tests.app.synthetic import answered, read, result

ORIGINAL = [result("original", 30, 40.5, 1.0)]
THREE = [result("come", 27, 59.6, 1.0), result("shortgpt", 27, 50.6, 1.0), result("random", 27, 90.0, 1.0)]
MANY = ("shortgpt", "sleb", "deeper", "reverse", "magnitude", "taylor", "mka", "laco", "slm", "skip", "random")
SHARED = [3.1, 3.9, 4.4, 2.8, 3.6, 4.0, 3.3, 3.7]  # of eight sequences, some of which every model finds hard


def said(results: list[Result], originals: list[Result] = ORIGINAL, key: str = "perplexity", **more) -> str:
    return " ".join(verdict.sentences(results, originals, metric(key), **more))


def many(come: dict[int, float], error: float | None = 0.1) -> list[Result]:
    """CoMe beside eleven methods, the best of which has perplexity 50 at every size."""
    others = [result(method, layers, 50.0 + 10 * place, error) for place, method in enumerate(MANY) for layers in come]
    return [*[result("come", layers, value, error) for layers, value in come.items()], *others]


def test_of_few_lines_each_is_named() -> None:
    assert said(THREE) == (
        "At 27 layers ShortGPT loses least: perplexity 50.6, CoMe's 1.18 (95%: 1.12–1.24) times as high. "
        "Perplexity: ShortGPT 50.6 ± 1.0, CoMe 59.6 ± 1.0, Random 90.0 ± 1.0; the original 40.5 ± 1.0. "
        "Removal is better than merging here."
    )


def test_the_same_tokens_tell_what_the_values_alone_cannot() -> None:
    """Sequences are unlike, so each value's error is wide; the difference is nearly the same on all of them."""
    apart = [0.10, 0.12, 0.09, 0.11, 0.10, 0.13, 0.08, 0.11]
    come = read("come", 27, SHARED)
    shortgpt = read("shortgpt", 27, [loss + more for loss, more in zip(SHARED, apart, strict=True)])
    first = verdict.sentences([come, shortgpt], ORIGINAL)[0]
    assert first == "At 27 layers CoMe loses least: perplexity 36.6, ShortGPT's 1.11 (95%: 1.10–1.13) times as high."
    alone = [replace(each, samples={}) for each in (come, shortgpt)]
    assert "the errors are too wide to tell it from ShortGPT" in said(alone)


def test_what_the_sequences_do_not_agree_on_is_open() -> None:
    other = read("shortgpt", 27, [loss + 0.4 * (-1) ** place + 0.05 for place, loss in enumerate(SHARED)])
    assert "8 sequences are too few to tell it from ShortGPT" in said([read("come", 27, SHARED), other])


@pytest.mark.parametrize("key", ["perplexity", "accuracy"])
def test_without_an_error_nothing_is_sure(key: str) -> None:
    runs = [result(name, 27, value, accuracy=Value(value)) for name, value in (("come", 0.5), ("shortgpt", 0.6))]
    words = said(runs, [], key)
    assert "no error is known" in words or "too few questions" in words
    assert "loses least" not in words and "keeps most" not in words


def test_models_that_answer_alike_come_out_even() -> None:
    even = [read("come", 27, SHARED), read("shortgpt", 27, [loss + 0.0005 for loss in SHARED])]
    assert said(even).startswith("At 27 layers CoMe and ShortGPT come out even: perplexity 36.6.")


def test_it_speaks_of_the_metric_and_size_that_are_chosen() -> None:
    kl = [result("come", 27, 60.0, 1.0, kl=Value(0.5, 0.01)), result("shortgpt", 27, 50.0, 1.0, kl=Value(0.9, 0.01))]
    assert said(kl, [], "kl").startswith(
        "At 27 layers CoMe stays nearest: KL to the original 0.500, 0.400 (95%: 0.372 to 0.428) below"
    )
    assert "perplexity" not in said(kl, [], "kl")
    assert said(THREE, size=PARAMETERS).startswith("At 27.0 M parameters ShortGPT")
    assert said(THREE, size=SPARSITY).startswith("With 10.0% of the parameters removed ShortGPT")
    fast = [result("come", 27, decode=Value(1.12)), result("sleb", 27, decode=Value(1.05))]
    assert said(fast, [], "decode").startswith("At 27 layers CoMe is fastest: decode speed-up 1.12×, SLEB 1.05×.")
    assert said(THREE, key="retention") == "These runs say nothing of accuracy above chance that is left."


def test_it_speaks_of_the_size_with_most_lines_or_the_one_that_is_asked_for() -> None:
    runs = [*THREE, result("come", 29, 44.0, 1.0)]
    assert said(runs).startswith("At 27 layers")
    assert said(runs, layers=29).startswith("At 29 layers CoMe has perplexity 44.0 ± 1.0; run another method")
    assert said([], []) == "No finished run to compare yet."


def test_who_leads_elsewhere_is_told() -> None:
    def pair(layers: int, come: float, shortgpt: float) -> list[Result]:
        return [result("come", layers, come, 0.1), result("shortgpt", layers, shortgpt, 0.1)]

    mild = pair(28, 45.0, 46.0)
    assert said([*mild, *pair(27, 60.0, 55.0), *pair(26, 80.0, 79.99)]).endswith(
        "At 27 layers ShortGPT leads; at 26 layers it is open."
    )
    assert said([*mild, *pair(27, 60.0, 65.0)]).endswith("At 27 layers CoMe leads too.")
    sizes = [each for layers in range(20, 28) for each in pair(layers, 90.0, 80.0)]
    assert said([*mild, *sizes]).endswith("At 8 other sizes ShortGPT leads.")


def test_of_many_lines_comes_rank() -> None:
    words = verdict.sentences(many({27: 65.0, 24: 55.0}), ORIGINAL)
    assert words[0] == "At 27 layers ShortGPT loses least: perplexity 50.0, SLEB's 1.20 (95%: 1.19–1.21) times as high."
    assert "CoMe is 3rd of 12: 1.30 (1.29–1.31) times ShortGPT's." in words
    assert "CoMe is" not in said(many({27: 45.0}))
    assert said([run for run in many({27: 45.0}) if run.method != "come"]).startswith("At 27 layers ShortGPT loses")
    assert len(words) <= 4 and len(" ".join(words)) < 450


def test_the_plan_that_was_judged_is_named() -> None:
    by_hand = replace(result("come", 27, 50.0, 0.1), series="CoMe, windows by hand", run="other")
    words = said([by_hand, result("come", 27, 60.0, 0.1)])
    assert words.startswith("At 27 layers CoMe, windows by hand, loses least: perplexity 50.0, CoMe's 1.20")


def test_recovery_is_a_sentence_of_its_own_and_wins_nothing() -> None:
    plain = [result("come", 27, 60.0, 0.1), result("shortgpt", 27, 55.0, 0.1)]
    mended = replace(result("come", 27, 45.0), series="CoMe + refit", recovered=True)
    words = verdict.sentences([mended, *plain], ORIGINAL)
    assert words[0].startswith("At 27 layers, before recovery, ShortGPT loses least")
    assert words[-1] == "Recovery improves perplexity: CoMe at 27 layers from 60.0 to 45.0."
    worse = replace(mended, values={"perplexity": Value(61.5)})
    assert said([worse, *plain]).endswith("Recovery worsens perplexity: CoMe at 27 layers from 60.0 to 61.5.")
    several = [result("come", layers, 60.0) for layers in range(20, 26)]
    several += [
        replace(run, series="CoMe + refit", recovered=True, values={"perplexity": Value(45.0)}) for run in several
    ]
    assert said(several).endswith("Recovery improves perplexity in 6 of 6 runs, at the median to 75% of what it was.")
    alone = verdict.sentences([mended], ORIGINAL)  # what it was before is not known
    assert alone[0].startswith("At 27 layers CoMe + refit has perplexity 45.0")


def test_five_questions_are_too_few() -> None:
    runs = [answered("come", "11111"), answered("shortgpt", "00100")]
    for key in ("accuracy", "accuracy/quiz"):
        assert verdict.sentences(runs, [], metric(key))[0] == "At 27 layers there are too few questions to tell: 5."


def test_questions_that_both_answer_alike_tell_nothing() -> None:
    """800 questions, of which five went the other way: chance would do that."""
    come, other = "10" * 400, "10" * 395 + "00" * 5
    assert "800 questions" in said([answered("come", come), answered("shortgpt", other)], [], "accuracy")
    assert "keeps most" not in said([answered("come", come), answered("shortgpt", other)], [], "accuracy")
    far = answered("shortgpt", "10" * 300 + "00" * 100)
    assert said([answered("come", come), far], [], "accuracy").startswith(
        "At 27 layers CoMe keeps most: accuracy 50.0 %, 12.5 (95%: 10.2 to 14.8) points above ShortGPT."
    )


def test_an_original_that_guesses_is_told() -> None:
    guess = replace(result("original", 30), values={"accuracy": Value(0.26, 0.03, chance=0.25, basis=(("quiz", 80),))})
    assert said([answered("come", "10" * 40)], [guess], "accuracy").endswith("so accuracy tells nothing.")
