"""Recovering a pruned model by any of the ways, or by several in a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.events import OnProgress
from come.models import Bundle
from come.models.not_finite import WIDER
from come.models.offload import is_offloaded
from come.plan.plan import RECOVERED, Plan, Span, spans_of
from come.plan.steps import Mask
from come.pruning.result import Result
from come.recovery.put_back import put_back
from come.recovery.registry import parse
from come.recovery.way import Recovered, RecoverTask, Stop, Way
from come.training.checkpoint import open_folder, read_state, write_state
from come.transforms.rebuild import base_of, with_plan
from come.transforms.replace import replace_weights


def recover(
    bundle: Bundle,
    teacher: Bundle,
    tokens: Tensor,
    how: str | Sequence[str] = "distill-mp",
    *,
    on_progress: OnProgress = None,
    checkpoint: str | Path | None = None,
    stop: Stop | None = None,
    control: bool = False,
    **options: Any,
) -> Result:
    """Give a pruned model back what its size allows; neither model given is changed.

    Args:
        bundle: the pruned model, with its plan.
        teacher: the model that it was pruned from, in any dtype.
        tokens: to learn from, int64 (sequences, tokens); the last sequences are held out.
        how: a way of ``ways()``, or several that follow one another: ["refit", "distill-mp", "logits"];
            "default": what gives back most for its time (``default_ways``).
        on_progress: told of each step; its values hold layer, step, train_loss, held_out_loss and lr.
        checkpoint: a folder; what a killed run leaves there, the same request goes on from, to the same weights.
        stop: asked now and then whether to stop early and keep the best.
        control: take a model that lost nothing too: what training alone does to it.
        **options: of the ways; one that several have goes to all of them, "logits.lr" to that one.

    Returns:
        The recovered model and its plan: the pruned model's with one more step, which puts what changed in place.

    Raises:
        ComeError: there is nothing to recover, the models do not belong together, the request is impossible, or values
            of a model are not finite.
    """
    chosen = parse(how, options)
    plan = bundle.plan if bundle.plan is not None else Plan(base=base_of(bundle), dtype=_name(bundle.dtype), method="")
    _check(bundle, teacher, tokens, plan, control)
    folder = Path(checkpoint).expanduser() if checkpoint is not None else None
    if folder is not None:
        open_folder(folder, _identity(bundle, teacher, tokens, plan, chosen))
    student, changed, notes = bundle, dict[str, Tensor](), list[str]()
    for number, (way, parsed) in enumerate(chosen):
        task = RecoverTask(
            student, teacher, tokens, spans_of(plan), lossy_spans(student, teacher, plan), folder, stop, on_progress,
            number, len(chosen), plan,
        )  # fmt: skip
        recovered = _run(way, parsed, task)
        if recovered.layers not in (None, len(student.layers)):
            student, plan = put_back(student, teacher, plan, recovered.layers)
        new = _different(student, recovered.tensors)
        if new:
            student = replace_weights(student, new)
        changed |= new
        notes += [f"{RECOVERED}{way.name}: {note}" for note in recovered.notes]
        task.emit(1.0, f"{way.title}: {len(new)} tensors changed", way=way.name)
    if changed:
        plan = plan.with_tensors(changed, " + ".join(way.name for way, _ in chosen))
    for note in notes:
        plan = plan.with_note(note)
    return Result(with_plan(student, plan), plan)


def lossy_spans(student: Bundle, teacher: Bundle, plan: Plan) -> list[Span]:
    """The spans of the layers that lost something: they stand for several, or had units silenced."""
    masked = any(isinstance(step, Mask) for step in plan.steps)
    return [
        span
        for span in spans_of(plan)
        if len(span.layers) != 1 or (masked and not _same(student.layers[span.layer], teacher.layers[span.first]))
    ]


def _same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(one, other.to(one.device, one.dtype)) for one, other in pairs)


def _run(way: Way, options: Any, task: RecoverTask) -> Recovered:
    """What a way comes to; one that was finished before is read from its checkpoint."""
    file = task.checkpoint_of(way.name)
    done = _read_finished(file)
    if done is None:
        task.emit(0.0, f"{way.title}: starting", way=way.name)
        done = way.function(task, options)
        _write_finished(file, done)
    return done


def _different(student: Bundle, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that differ from the student's own, in its dtype.

    Raises:
        ComeError: one of them does not fit that.
    """
    own = dict(student.model.named_parameters(remove_duplicate=False))
    cast = {name: value.detach().to(own[name].device, own[name].dtype) for name, value in tensors.items()}
    for name, value in cast.items():
        if not bool(value.isfinite().all()):
            raise ComeError(
                f"What the recovery gives {name} overflows in {_name(value.dtype)}.",
                WIDER.get(value.dtype, "Lower the learning rate, or leave this recovery out."),
            )
    return {name: value for name, value in cast.items() if not torch.equal(value, own[name])}


def _check(bundle: Bundle, teacher: Bundle, tokens: Tensor, plan: Plan, control: bool) -> None:
    if not control and not lossy_possible(plan):
        raise ComeError(
            "Nothing was merged or removed in this model, so there is nothing to recover.",
            "Prune it first; a model of a run keeps its plan, a folder loaded by itself does not.",
        )
    ours, theirs = bundle.shape, teacher.shape
    same = (ours.hidden_size, bundle.family.name) == (theirs.hidden_size, teacher.family.name)
    if not same or len(teacher.layers) != plan.base.layers:
        raise ComeError(
            f"The teacher ({teacher.family.title}, {len(teacher.layers)} layers of {theirs.hidden_size} channels) is "
            f"not the model that this one was pruned from ({bundle.family.title}, {plan.base.layers} layers of "
            f"{ours.hidden_size}).",
            f"Take {plan.base.source} as the teacher.",
        )
    if bundle.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise ComeError(
            "The teacher reads text by another tokenizer.", f"Take {plan.base.source} with the tokenizer it came with."
        )
    check_in_memory(bundle)
    if len(tokens) < 2:
        raise ComeError(
            "There are no tokens to hold out: recovery needs at least two sequences.", "Give more or shorter sequences."
        )


def check_in_memory(bundle: Bundle) -> None:
    """Refuse to recover a model, or one that is pruned from it, that lies partly outside of memory.

    Raises:
        ComeError: it does.
    """
    if is_offloaded(bundle.model):
        raise ComeError(
            "A model that lies partly outside of memory cannot be recovered.", "Use a machine on which it fits."
        )


def lossy_possible(plan: Plan) -> bool:
    """Whether the steps of a plan took anything away."""
    return any(step.kind != "replace" for step in plan.steps)


def _identity(
    bundle: Bundle, teacher: Bundle, tokens: Tensor, plan: Plan, chosen: list[tuple[Way, Any]]
) -> dict[str, str]:
    """What must be the same for a killed run to be gone on with."""
    asked = [(way.name, options.model_dump()) for way, options in chosen]
    return {
        "student": bundle.fingerprint,
        "teacher": teacher.fingerprint,
        "plan": hashlib.sha256(plan.model_dump_json().encode()).hexdigest(),
        "tokens": hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest(),
        "request": json.dumps(asked),
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write_finished(file: Path | None, recovered: Recovered) -> None:
    """Keep what a way came to, so that it is not done again."""
    if file is not None:
        write_state(file, recovered.tensors, {"notes": recovered.notes, "layers": recovered.layers})


def _read_finished(file: Path | None) -> Recovered | None:
    """What a way came to, if it was finished."""
    found = read_state(file)
    return Recovered(found[0], found[1].get("notes", []), found[1].get("layers")) if found is not None else None
