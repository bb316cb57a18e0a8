"""`come grow`: a deeper model out of a model, and what that does to its perplexity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from come.cli.models import refuse_full
from come.cli.options import parse_pairs
from come.cli.request import DEVICE, asks_for, option_of, pieces
from come.cli.screen import AsJson, progress, show, show_json, show_table
from come.errors import ComeError
from come.request import RunConfig

if TYPE_CHECKING:
    from come.evaluate import Perplexity
    from come.events import OnProgress
    from come.growing import Grown
    from come.models import Bundle


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("grow")(grow)


@asks_for("seq_len", "bos", "seed", *DEVICE)
def grow(
    config: RunConfig,
    model: Annotated[
        str, typer.Argument(help="A name from `come models`, a folder, a .gguf, a hub id.", metavar="MODEL")
    ],
    method: Annotated[str, typer.Option("--method", help="lesa, solar, duplicate or llama-pro.")] = "lesa",
    layers: Annotated[int | None, typer.Option("--layers", "-n", min=1, help="Layers of the grown model.")] = None,
    after: Annotated[
        str, typer.Option("--after", help="Or: behind which layers a new one comes, such as 15,16 (not with solar).")
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="key=value, of lesa: epochs, hidden, lr, batch, norm_weight."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write: new, or empty (else nothing is kept).")
    ] = None,
    text: Annotated[
        str, option_of("text", help="Perplexity on its held-out part: python-docs, mix, a hub set, or a file.")
    ] = "python-docs",
    tokens: Annotated[int, option_of("n_tokens", help="On how many tokens.")] = 4096,
    as_json: AsJson = False,
) -> None:
    """Make a model deeper: a plain one of the same architecture, to train further, or to prune back as a check.

    lesa predicts each new layer from its two neighbours; solar puts the last layers upon the first, with those between
    twice; duplicate puts a copy behind a layer, llama-pro one that at first hands on what it gets.

    [bold]Examples[/bold]

    Six more layers at the top, as LESA places them:  come grow smollm2-135m --layers 36 --out smollm2-36

    Copies in the same places:  come grow smollm2-135m --method duplicate --after 23,24,25,26,27,28

    What was grown, pruned back:  come run --model smollm2-36 --target-layers 30
    """
    from come.growing import grow as grown_by
    from come.models import load
    from come.text import read

    asked = config.model_copy(update={"model": model, "text": text, "n_tokens": tokens})
    places, options = _places(after), _options(method, option or [])
    if out is not None:
        refuse_full(out)
    read(text, "evaluation")  # what is wrong with a request is told before the model is loaded
    _refuse_quantized(model)
    with progress() as on_progress:
        bundle = load(model, config.device, config.dtype, on_progress)
        made = grown_by(
            bundle, method, layers=layers, after=places, seed=config.seed, on_progress=on_progress, **options
        )
        perplexities = _judge((bundle, made.bundle), asked, on_progress)
        if out is not None:
            from come.export.folder import save

            save(made.bundle, out)
    if as_json:
        show_json(_facts(asked, method, options, bundle, made, perplexities, out))
    else:
        _tell(asked, bundle, made, perplexities, out)


def _places(after: str) -> list[int] | None:
    try:
        return [int(piece) for piece in pieces(after)] if after.strip() else None
    except ValueError as error:
        raise ComeError(f"{after!r} names no layers.", "Give numbers from 0 on, such as 15,16.") from error


def _options(method: str, pairs: list[str]) -> dict[str, Any]:
    from come.growing.registry import growth

    return parse_pairs(pairs, method, growth(method).options)


def _refuse_quantized(model: str) -> None:
    """Refuse a checkpoint whose weights are packed, though loading would unpack it: it is not what would be saved."""
    from come.models import describe

    told = describe(model).config.get("quantization_config")
    if told:
        how = told.get("quant_method", "packed") if isinstance(told, dict) else "packed"
        raise ComeError(f"{model} is quantized ({how}), and is not grown.", "Choose the model that it was made from.")


def _judge(models: tuple[Bundle, Bundle], asked: RunConfig, on_progress: OnProgress) -> list[Perplexity]:
    """The perplexity of both on the same held-out tokens."""
    from come.evaluate import measure_perplexity
    from come.text import tokens

    batch = tokens(models[0], asked.text, asked.n_tokens, asked.seq_len, "evaluation", asked.seed, bos=asked.bos)
    told = ("Perplexity of the original", "Perplexity of the grown model")
    return [
        measure_perplexity(each, batch, batch_size=asked.batch_size, on_progress=on_progress, message=message)
        for each, message in zip(models, told, strict=True)
    ]


def _facts(
    asked: RunConfig,
    method: str,
    options: dict[str, Any],
    bundle: Bundle,
    made: Grown,
    perplexities: list[Perplexity],
    out: Path | None,
) -> dict[str, Any]:
    original, grown = (
        {"layers": len(each.layers), "parameters": each.parameters, **perplexity.metrics()}
        for each, perplexity in zip((bundle, made.bundle), perplexities, strict=True)
    )
    return {
        "model": asked.model,
        "method": method,
        "options": options,
        "seed": asked.seed,
        "text": asked.text,
        "n_tokens": asked.n_tokens,
        "seq_len": asked.seq_len,
        "original": original,
        "grown": grown,
        "origins": made.origins,
        "new": made.new,
        "fits": made.fits,
        **({"folder": str(out.resolve())} if out is not None else {}),
    }


def _tell(asked: RunConfig, bundle: Bundle, made: Grown, perplexities: list[Perplexity], out: Path | None) -> None:
    from come.text import short_name

    rows = [
        (
            name,
            len(each.layers),
            each.parameters,
            perplexity.value,
            f"± {perplexity.stderr:,.2f}" if math.isfinite(perplexity.stderr) else "",
        )
        for name, each, perplexity in zip(("original", "grown"), (bundle, made.bundle), perplexities, strict=True)
    ]
    show_table(("model", "layers", "parameters", "perplexity", ""), rows)
    show(f"\nOn {asked.n_tokens:,} tokens of {short_name(asked.text)}. {made.bundle.notes[-1]}")
    if made.fits:
        show("")
        fits = [(path, f"{fit.error:.3f}", f"{fit.mean_error:.3f}") for path, fit in made.fits.items()]
        show_table(("map", "error of the prediction", "of the neighbours' mean"), fits)
        show("Relative, on the layers that there are, each predicted from its neighbours; zeros would have 1.")
    if out is not None:
        show(f"\n{out.resolve()}")
