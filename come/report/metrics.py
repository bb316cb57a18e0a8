"""What can be compared, and against what: names, units, what is better, how a number is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from come.numbers import LARGEST_PERPLEXITY
from come.report.measured import Result, Value

MIB = 2**20
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Metric:
    """A quantity that runs are compared by, such as perplexity.

    Attributes:
        key: its name in `Result.values`.
        title: what it is called in a list; `axis`: with its unit, in lower case.
        lower: whether less is better.
        best: what is said of the best: "loses least".
        scale, digits, unit: a value is written as value * scale, with so many digits, and the unit behind it.
        original: the original model's value where it is so by definition.
        log: drawn on a logarithmic axis where values are far apart.
        drawn: offered for the charts; the rest is in the tables only.
    """

    key: str
    title: str
    axis: str
    lower: bool
    best: str
    scale: float = 1.0
    digits: int = 2
    unit: str = ""
    original: float | None = None
    log: bool = False
    drawn: bool = True

    @property
    def noun(self) -> str:
        """What a value is called within a sentence: "perplexity", "KL to the original"."""
        words = self.title.removesuffix(", mean of the tasks").removesuffix(", tokens/s")
        return words[:1].lower() + words[1:] if words[1:2].islower() else words

    def say(self, value: float) -> str:
        """A value as people read it: "59.6", "71.0 %", "1.12×"."""
        if self.key == "perplexity":
            return number(value)
        return f"{value * self.scale:,.{self.digits}f}{self.unit}".replace("-", "−")

    def say_with(self, value: float, low: float | None, high: float | None) -> str:
        """A value with its error: "59.6 ± 2.1", "71.0 ± 5.5 %"; where the error is lopsided, its ends."""
        if low is None or high is None:
            return self.say(value)
        above, below = high - value, value - low
        if abs(above - below) > 1e-6 * max(abs(above), abs(below)):
            return f"{self.say(value)} ({self.bare(low, value)}–{self.bare(high, value)})"
        return f"{self.bare(value)} ± {self.bare(above, value)}{self.unit}"

    def bare(self, value: float, beside: float | None = None) -> str:
        """A value without its unit; one that stands `beside` another has as many digits as that."""
        if self.key != "perplexity":
            return f"{value * self.scale:,.{self.digits}f}".replace("-", "−")
        other = value if beside is None else beside
        if other >= 1e6:
            return number(value)
        return f"{value:,.1f}" if other < 100 or value < 10 else f"{value:,.0f}"

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than the other."""
        return one < other if self.lower else one > other


@dataclass(frozen=True)
class Size:
    """What a metric is drawn against: the layers, parameters, or share of parameters removed.

    Attributes:
        of: a result's size in the axis' unit; None where it is not known.
        smaller: whether a smaller model has the smaller number.
    """

    key: str
    title: str
    axis: str
    smaller: bool
    of: Callable[[Result], float | None]


LAYERS = Size("layers", "Layers", "layers", True, lambda result: result.layers)
PARAMETERS = Size("parameters", "Parameters", "parameters in millions", True, lambda result: result.parameters / 1e6)
SPARSITY = Size("sparsity", "Sparsity", "share of parameters removed, %", False, lambda result: 100 * result.removed)
SIZES = {size.key: size for size in (LAYERS, PARAMETERS, SPARSITY)}

PERPLEXITY = Metric("perplexity", "Perplexity", "perplexity", True, "loses least", log=True)
_ACCURACY = Metric("accuracy", "Accuracy, mean of the tasks", "accuracy", False, "keeps most", 100, 1, " %")
_RETENTION = Metric(
    "retention",
    "Retention, mean of the tasks",
    "accuracy above chance that is left",
    False,
    "keeps most",
    100,
    1,
    " %",
    1.0,
)
_STABILITY = Metric(
    "stability",
    "Stability, mean of the tasks",
    "answers right and wrong as the original's",
    False,
    "is most stable",
    100,
    1,
    " %",
    1.0,
)
_KNOWN = {
    metric.key: metric
    for metric in (
        PERPLEXITY,
        Metric("bits_per_byte", "Bits per byte", "bits per byte", True, "loses least", digits=3),
        Metric(
            "kl",
            "KL to the original",
            "KL to the original, nats per token",
            True,
            "stays nearest",
            digits=3,
            original=0.0,
            log=True,
        ),
        _ACCURACY,
        _RETENTION,
        _STABILITY,
        Metric(
            "prefill",
            "Prefill speed-up",
            "prefill speed over the original's",
            False,
            "is fastest",
            unit="×",
            original=1.0,
        ),
        Metric(
            "decode", "Decode speed-up", "decode speed over the original's", False, "is fastest", unit="×", original=1.0
        ),
        Metric("weights", "Memory of the weights", "weights in MiB", True, "is smallest", 1 / MIB, 0, " MiB"),
        Metric("peak_memory", "Peak memory", "peak memory in MiB", True, "needs least", 1 / MIB, 0, " MiB"),
        Metric(
            "prefill_rate", "Prefill, tokens/s", "prefill tokens per second", False, "is fastest", digits=1, drawn=False
        ),
        Metric(
            "decode_rate", "Decode, tokens/s", "decode tokens per second", False, "is fastest", digits=1, drawn=False
        ),
        Metric("seconds", "Time to prune, s", "seconds to prune", True, "is fastest", digits=1, drawn=False),
        Metric(
            "first_token", "First token, ms", "time to the first token in ms", True, "is fastest", 1000, 1, drawn=False
        ),
    )
}


def metric(key: str) -> Metric:
    """The metric of that key; "accuracy/<task>", "retention/<task>" and "stability/<task>" are those of one task."""
    kind, _, task = key.partition("/")
    known = _KNOWN[kind]
    if not task:
        return known
    words = task_title(task)
    return replace(known, key=key, title=f"{kind.capitalize()}: {words}", axis=f"{known.axis}, {words}")


def measured(results: Sequence[Result]) -> list[Metric]:
    """The metrics that at least one result holds, the common ones first, those of single tasks last."""
    keys = dict.fromkeys(key for result in results for key in result.values)
    order = list(_KNOWN)
    known = [key for key in keys if key.partition("/")[0] in _KNOWN]
    return [metric(key) for key in sorted(known, key=lambda key: ("/" in key, order.index(key.partition("/")[0]), key))]


def task_title(task: str) -> str:
    """A task in words: "what_happens_next" -> "what happens next"; a file without its folder."""
    return task.rstrip("/").rsplit("/", 1)[-1].removesuffix(".jsonl").replace("_", " ")


def ends(value: Value) -> tuple[float | None, float | None]:
    """Where the error bar of one value begins and ends: one standard error, or the quartiles."""
    if value.quartiles is not None:
        return value.quartiles
    if not value.stderr:
        return None, None
    return value.value - value.stderr, value.value + value.stderr


def factor(ratio: float) -> str:
    """How many times as large one perplexity is as another: 1.234 -> "1.23"; 5476.3 -> "5,476"."""
    return f"{ratio:.2f}" if ratio < 100 else number(ratio)


def number(value: float) -> str:
    """A perplexity in the fewest digits that still tell: 59.6, 207, 12,345, 1.2 × 10⁶, > 10³⁰."""
    if value < 1e6:
        return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
    if value >= LARGEST_PERPLEXITY:
        return f"> 10{str(round(math.log10(LARGEST_PERPLEXITY))).translate(SUPERSCRIPT)}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"
