"""Answers side by side, as HTML: each token underlined by its chance, and marked where a model parts ways.

What models write is shown as it is, whatever it holds: everything is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from app import theme
from app.playground.generation import ORIGINAL, UNSURE, Answer, Generation
from come.report import looks
from come.serving.playground.speech import Word

# Chance from which on -> the underline's class. The rest is "u3".
LEVELS = ((0.9, "u0"), (0.5, "u1"), (UNSURE, "u2"))
_SHOWN = 6  # alternatives of a token
ENOUGH = 16  # tokens from which on a speed says something
INK = "rgba(128, 136, 148, 1)"


def color(speaker: str, methods: Mapping[str, str]) -> str:
    """The colour of a speaker: grey for the original, that of its method for a pruned model."""
    return theme.ORIGINAL if speaker == ORIGINAL or speaker not in methods else looks.color(methods[speaker])


def level(chance: float) -> str:
    """The underline of a token: the less its model believed in it, the stronger."""
    return next((name for least, name in LEVELS if chance >= least), "u3")


def visible(text: str) -> str:
    """A token in quotation marks, with its spaces and line breaks to be seen."""
    return f"“{text.replace(' ', '␣').replace(chr(10), '↵').replace(chr(9), '⇥')}”" if text else "“”"


def answers(generation: Generation) -> str:
    """All answers, in as many columns as fit."""
    cards = "".join(_card(generation, answer) for answer in generation.answers.values())
    count = len(generation.answers)
    return f"<div class='come-side'><div class='come-answers' style='--count:{count}'>{cards}</div></div>"


def asked(generation: Generation, shown: str = "") -> str:
    """What was asked, and how, in one line; the prompt only where it is another one than is `shown` above."""
    prompt, sampling = " ".join(generation.asked.prompt.split()), generation.asked.sampling
    how = [f"temperature {sampling.temperature:g}", f"top-p {sampling.top_p:g}", f"seed {sampling.seed}"]
    parts = []
    if generation.asked.prompt != shown:
        parts.append(f"“{prompt if len(prompt) <= 120 else prompt[:119] + '…'}”")
    if generation.start is not None:
        parts.append(f"{generation.start.tokens} tokens {'with the chat template' if generation.start.chat else 'raw'}")
    parts.append(", ".join(how) if sampling.temperature else "greedy")
    if generation.status == "stopped":
        parts.append("stopped")
    if generation.recorded:
        parts.append("recorded with the example")
    return f"<p class='come-legend'>{escape(' · '.join(parts))}</p>"


def _card(generation: Generation, answer: Answer) -> str:
    name = escape(generation.asked.names[answer.name])
    body = _body(generation, answer) or f"<span class='quiet'>{escape(_waiting(generation))}</span>"
    voice = color(answer.name, generation.asked.methods)
    return (
        f"<section class='come-answer' style='--voice:{voice}' aria-label='{name}'>"
        f"<header><b>{name}</b><span class='quiet'>{escape(standing(generation, answer))}</span></header>"
        f"<p>{body}</p><footer>{escape(numbers(answer))}</footer></section>"
    )


def standing(generation: Generation, answer: Answer) -> str:
    """How far a model says the same as the original, in a few words."""
    if answer.name == ORIGINAL:
        return ""
    if answer.parting is not None:
        return f"another word from token {answer.parting.position + 1} on"
    if not answer.words:
        return ""
    return "the same so far" if generation.active or generation.status != "done" else "the same words"


def numbers(answer: Answer) -> str:
    """Speed, length and doubts of an answer, in one line."""
    count = len(answer.words)
    if not count:
        return "no token yet"
    parts = []
    rate = answer.tokens_per_second
    if rate and math.isfinite(rate) and count >= ENOUGH:
        parts.append(f"{rate:.1f} tokens/s")
    parts.append(f"{count} {'token' if count == 1 else 'tokens'}")
    parts.append(f"unsure of\N{NO-BREAK SPACE}{answer.unsure}")
    if answer.end is not None and answer.end.reason == "length":
        parts.append("cut off")
    return " · ".join(parts)


def _waiting(generation: Generation) -> str:
    if generation.status == "working":
        return "Reading the prompt…"
    starts = "Starting the process that holds the models…"  # which reports from then on
    return {"waiting": generation.news or starts, "failed": "No answer."}.get(generation.status, "Stopped.")


def _body(generation: Generation, answer: Answer) -> str:
    words, parting = list(answer.words), answer.parting
    forks = generation.partings() if answer.name == ORIGINAL else {}
    told = not generation.active  # while words come, the page is drawn anew too often to hover over it
    shown = [
        _token(
            word,
            ended=answer.end is not None and answer.end.reason == "stop" and position == len(words) - 1,
            parts=parting is not None and parting.position == position,
            left_by=forks.get(position, ()),
            instead=_instead(generation, position) if parting is not None and parting.position == position else "",
            told=told,
        )
        for position, word in enumerate(words)
    ]
    # The original had more to say.
    if parting is not None and parting.position >= len(words):
        shown.append("<mark class='t part'>■</mark>")
    if forks and (late := [name for position, names in forks.items() if position >= len(words) for name in names]):
        shown.append(
            f"<span class='t fork' tabindex='-1' data-tip='{escape(_listed(late), quote=True)} went on here'>▸</span>"
        )
    return "".join(shown) + (
        "<span class='caret'>▍</span>" if generation.active and answer.end is None and words else ""
    )


def _token(word: Word, *, ended: bool, parts: bool, left_by: Sequence[str], instead: str, told: bool) -> str:
    text = "■" if ended else word.text
    if not text:
        if not (parts or left_by):
            return ""  # within a character: the token that ends it shows it
        text = "▫"
    classes = ["t", level(word.chance)]
    classes += ["part"] if parts else []
    classes += ["fork"] if left_by else []
    classes += ["end"] if ended else []
    tip = ""
    if told:
        notes = [f"{_listed(left_by)} {'goes' if len(left_by) == 1 else 'go'} on differently here"] if left_by else []
        notes += [instead] if instead else []
        lines = [*notes, *_alternatives(word)]
        tip = f" tabindex='-1' data-tip='{escape(chr(10).join(lines), quote=True).replace(chr(10), '&#10;')}'"
    shown = escape(text).replace("\n", "<span class='quiet'>↵</span>\n")
    tag = "mark" if parts else "span"
    return f"<{tag} class='{' '.join(classes)}'{tip}>{shown}</{tag}>"


def _alternatives(word: Word) -> list[str]:
    """The chance of a token, and of the likeliest ones."""
    own = next((place for place, (token, _, _) in enumerate(word.top) if token == word.token), None)
    rows = [
        f"{'▸' if token == word.token else '  '} {_percent(chance)}  {visible(text)}"
        for token, text, chance in word.top
    ]
    rows = rows[:_SHOWN]
    if own is None or own >= _SHOWN:
        rows.append(f"▸ {_percent(word.chance)}  {visible(word.text)}")
    return rows


def _percent(chance: float) -> str:
    return f"{chance:6.1%}" if chance >= 0.001 else " <0.1%"


def _instead(generation: Generation, position: int) -> str:
    """What the original wrote there."""
    theirs = generation.answers[ORIGINAL].words
    if position >= len(theirs):
        return "The original had ended before"
    if not theirs[position].text:
        return "The original ended here" if position == len(theirs) - 1 else "The original wrote another token"
    return f"The original wrote {visible(theirs[position].text)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


LEGEND = (
    "<p class='come-legend'><span>Chance of a token: <span class='t u0'>over 90%</span> "
    "<span class='t u1'>50–90%</span> <span class='t u2'>20–50%</span> "
    "<span class='t u3'>less: unsure</span></span> "
    "<span><mark class='t part'>first unlike the original's</mark> "
    "<span class='t fork'>there in the original</span></span> "
    "<span>Tap a token for more.</span></p>"
)

STYLE = f"""<style>
/* Before a room the answers come first, and not a chart that is folded away. */
.stApp:has(.st-key-presenter) [data-testid="stMainBlockContainer"] > * > :has(.come-answers) {{ order: 2; }}
.stApp:has(.st-key-presenter) [data-testid="stMainBlockContainer"] > * > :has(details .js-plotly-plot) {{
  order: 3 !important;
}}
.come-side {{ container-type: inline-size; }}
.come-answers {{ display: grid; gap: .75rem; grid-template-columns: minmax(0, 1fr); }}
@container (min-width: 32rem) {{ .come-answers {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }} }}
@container (min-width: 52rem) {{ .come-answers {{ grid-template-columns: repeat(var(--count), minmax(0, 1fr)); }} }}
.come-answer {{
  position: relative; min-width: 0; padding: .6rem .8rem .5rem; border: 1px solid {theme.HAIRLINE};
  border-top: 3px solid var(--voice); border-radius: 6px; display: flex; flex-direction: column;
}}
.come-answer header {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .5rem; line-height: 1.4; }}
.come-answer header span, .come-answer footer {{ font-size: .8rem; font-variant-numeric: tabular-nums; }}
.come-answer p {{
  margin: .35rem 0 .5rem; min-height: 5.5em; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere; flex: 1;
}}
.st-key-playground-example .come-answer p {{ max-height: 8.75em; overflow-y: auto; }}
.come-answer footer {{ margin-top: auto; }}
.come-answer .quiet, .come-answer footer, .come-legend {{ opacity: .78; }}
.t {{ border-radius: 2px; padding-bottom: 1px; }}
.t.u1 {{ border-bottom: 1px dotted {INK}; }}
.t.u2 {{ border-bottom: 1.5px solid {INK}; }}
.t.u3 {{ border-bottom: 3px solid {INK}; }}
.t.part {{
  background: color-mix(in srgb, {theme.MARK} 28%, transparent); color: inherit; outline: 1.5px solid {theme.MARK};
}}
.t.fork {{ outline: 1.5px dashed {theme.MARK}; }}
.t.end {{ font-size: .75em; }}
.come-answer .t:hover, .come-answer .t:focus {{ background: color-mix(in srgb, {INK} 30%, transparent); }}
.come-answer .t[data-tip]:hover::after, .come-answer .t[data-tip]:focus::after {{
  content: attr(data-tip); position: absolute; left: .5rem; right: .5rem; z-index: 10; margin-top: 1.8em;
  padding: .4rem .6rem; border: 1px solid {theme.HAIRLINE}; border-radius: 6px; pointer-events: none;
  background: light-dark(#f4f6f8, #1a212b); color: light-dark(#1a2330, #e4e9ef);
  font: .78rem/1.5 ui-monospace, monospace; white-space: pre-wrap; box-shadow: 0 3px 12px rgba(0, 0, 0, .25);
}}
/* A button that another takes the place of would stay beside it for a while, and move what is below. */
.st-key-playground-asking [data-retained="true"] {{ display: none; }}
.st-key-next-tokens [data-testid="stHorizontalBlock"] {{ flex-wrap: wrap; }}
.st-key-next-tokens [data-testid="stColumn"] {{
  flex: 1 1 10.5rem !important; min-width: min(100%, 10.5rem) !important;
}}
.come-answer .caret {{ color: var(--voice); }}
.come-legend .t + .t {{ margin-left: .4rem; }}
.come-legend {{
  display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0; font-size: .8rem; line-height: 1.7;
}}
</style>"""
