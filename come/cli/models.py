"""`come methods`, `come models`, `come rebuild`: what needs no run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from come.cli.request import option_of
from come.cli.screen import AsJson, progress, show, show_json, show_table
from come.errors import ComeError, did_you_mean
from come.options import options_in

if TYPE_CHECKING:
    from come.pruning.method import Method
    from come.recovery.way import Way


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("rebuild")(rebuild)
    app.command("methods")(list_methods)
    app.command("models")(list_models)


def rebuild(
    plan: Annotated[Path, typer.Argument(help="A plan.json, as a run wrote it.", metavar="PLAN.json")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write: new, or empty.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Where the base model is now (else as the plan says).")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Save in float32, bfloat16 or float16 (else as the plan).")
    ] = None,
    device: Annotated[str, option_of("device")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Make the pruned model of a plan again, bit for bit, as a folder that Transformers loads.

    [bold]Example[/bold]

    come rebuild runs/20261122-141530-come-27-x7k2/plan.json --out smollm2-27-layers
    """
    from come.export.folder import save
    from come.plan.plan import Plan
    from come.transforms.rebuild import rebuild as rebuilt

    document = Plan.read(plan)
    refuse_full(out)
    with progress() as on_progress:
        bundle = rebuilt(model, document, device, None, on_progress)
        save(bundle, out, dtype)
    facts = {"folder": str(out.resolve()), "layers": len(bundle.layers), "parameters": bundle.parameters}
    if as_json:
        show_json(facts)
    else:
        show(f"{facts['layers']} layers, {facts['parameters']:,} parameters: {facts['folder']}")


def list_methods(
    names: Annotated[list[str] | None, typer.Argument(help="Of these alone.", metavar="[NAME]...")] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods and the ways of recovery: what each does and costs, and its options.

    [bold]Examples[/bold]

    come methods streamline

    come run --method come --target-layers 27 --option span=3
    """
    from come.pruning.registry import methods
    from come.recovery.registry import default_ways, ways

    chosen, recovering = methods(), ways()
    if names:
        if unknown := [name for name in names if name not in {**chosen, **recovering}]:
            hint = did_you_mean(unknown[0], [*chosen, *recovering], "`come methods` lists all.")
            raise ComeError(f"There is no method or way of recovery {unknown[0]!r}.", hint)
        chosen = {name: each for name, each in chosen.items() if name in names}
        recovering = {name: each for name, each in recovering.items() if name in names}
    if as_json:
        shown: dict[str, Method | Way] = {**chosen, **(recovering if names else {})}
        show_json({name: _facts_of(each) for name, each in shown.items()})
        return
    for method in chosen.values():
        _show_all(method)
    if not names:
        show(f"Ways of recovery, for --recover; default: {', then '.join(default_ways())}.\n")
    for way in recovering.values():
        _show_all(way)


def _show_all(told: Method | Way) -> None:
    """What a method or a way of recovery is, does and costs, and its options."""
    show(f"{told.name}: {told.title}" + (f" ({told.paper})" if told.paper else ""))
    show(f"  {told.summary}")
    show(f"  Cost: {told.cost}")
    options = options_in(told.options).values()
    show("  Options:" if options else "  Options: none")
    for option in options:
        show(f"    {option.name}={_written(option.default)} ({option.says}): {option.description}")
    show("")


def list_models(
    model: Annotated[str | None, typer.Argument(help="Tell the facts of this one instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """List models to begin with, and the families that are supported; or tell the facts of one.

    [bold]Examples[/bold]

    come models

    come models Qwen/Qwen3-0.6B
    """
    from come.models import FAMILIES, describe, known_models
    from come.models.text_tower import TOWERS

    if model is not None:
        facts = describe(model)
        if as_json:
            show_json(facts)
        else:
            values = ((fact.replace("_", " "), getattr(facts, fact)) for fact in _FACTS)
            show_table(("fact", "value"), [(fact, _told(value)) for fact, value in values if value != ""])
        return
    families = {name: family.title for name, family in FAMILIES.items()}
    if as_json:
        show_json({"models": known_models(), "families": families})
        return
    show_table(("name", "model", ""), [(known.name, known.title, known.note) for known in known_models()])
    show(f"\nAny folder or hub id of these families works: {', '.join(families.values())}.")
    show("So does a .gguf file of those of them that Transformers reads.")
    show(f"Of these multimodal models the text part is taken out: {', '.join(TOWERS)}.")


_FACTS = (
    "title", "model_type", "supported", "reason", "note", "license", "layers", "hidden_size", "intermediate_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
    "tied_embeddings", "dtype", "parameters", "layer_parameters",
)  # fmt: skip


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _facts_of(method: Method | Way) -> dict[str, Any]:
    return {
        "title": method.title,
        "paper": method.paper,
        "summary": method.summary,
        "kind": getattr(method, "kind", "recovery"),
        "cost": method.cost,
        "needs": getattr(method, "needs", ()),
        "options": method.defaults(),
        "about_options": {
            option.name: {
                "description": option.description,
                "takes": option.takes,
                "least": option.least,
                "most": option.most,
            }
            for option in options_in(method.options).values()
        },
    }


def _written(default: Any) -> str:
    """A default as `--option` takes it."""
    return default if isinstance(default, str) else json.dumps(default) if default is not None else "none"


def refuse_full(folder: Path) -> None:
    """Refuse to write into a folder that holds something, before the work, though `save` would refuse as well.

    Raises:
        ComeError: it does, or it is no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ComeError(f"{folder} is not empty.", "Choose a new folder; nothing is overwritten.")
