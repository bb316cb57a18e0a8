"""What a run does, stage by stage. Needs torch; imported when it is the run's turn."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.estimation.device import known_device, measure_device, remember
from come.events import OnProgress, emit
from come.export.folder import refuse_unheld, save
from come.measurement.measure import measure
from come.models import Bundle, describe
from come.models.offload import is_offloaded
from come.plan.plan import RECOVERED
from come.plan.steps import Average, Concatenate, Mask, Remove, Step
from come.pruning.compress import compress
from come.pruning.registry import method
from come.pruning.result import Result, StepRecord
from come.recovery.recover import check_in_memory, recover
from come.request import RunConfig, checked
from come.runs.documents import PLAN, file_id
from come.runs.evaluation import evaluate, evaluate_predictions
from come.runs.kept_model import digests
from come.runs.results import Results, size_of, text_facts
from come.runs.run import STOP_REQUEST, Run
from come.runs.shared import Chain, Shared
from come.transforms.rebuild import replay

AGAIN = 0.2  # seconds, where a speed is known


@dataclass(frozen=True)
class Job:
    """A run at work: its request, its results so far, and what it shares with other runs of this process."""

    run: Run
    config: RunConfig
    results: Results
    shared: Shared
    on_progress: OnProgress


def work(run: Run, config: RunConfig, on_progress: OnProgress = None, shared: Shared | None = None) -> None:
    """Do all that a run asks for and leave it in its directory. What lies there already is not done again.

    Args:
        run: where to leave it.
        config: what it asks for.
        on_progress: told of each stage.
        shared: what earlier runs of this process have loaded and measured.

    Raises:
        ComeError: something in the request turns out to be impossible.
    """
    job = Job(run, config, Results(run), shared or Shared(), on_progress)
    _remember_speed(config)  # while the device is free
    with job.results.timed("load"):
        bundle = job.shared.bundle(config, on_progress)
    with job.results.timed("text"):
        # All of them, so that a text that is too short is told of before the work.
        calibration, *_ = [job.shared.tokens(bundle, config, use, on_progress) for use in config.uses]
    job.results.note(
        device=str(bundle.model.device),
        dtype=_dtype(bundle),
        original=size_of(bundle),
        calibration=text_facts(config, "calibration", calibration, bundle.tokenizer),
    )
    if config.kind == "analyze":
        _analyze(job, bundle, calibration)
    else:
        _prune(job, bundle, calibration)
    emit(on_progress, "done", 1, 1, "Done")


def _remember_speed(config: RunConfig) -> None:
    """Measure this machine's speed (a second, later a moment), so that the page can say what runs will take.

    The quickest that it ever was counts: a machine that was busy at its first run is not slow for ever.
    """
    with suppress(ComeError, OSError):
        dtype = config.dtype if config.dtype != "auto" else describe(config.model).dtype
        known = known_device(dtype, config.device)
        found = measure_device(dtype, 1.0 if known is None else AGAIN, config.device)
        if known is None or found.linear_speed(dtype) > known.linear_speed(dtype):
            remember(found, dtype, config.device)


def _analyze(job: Job, bundle: Bundle, calibration: Tensor) -> None:
    path, config = job.run.path / "analysis.safetensors", job.config
    if not path.exists():
        with job.results.timed("measure"):
            measurement = measure(
                bundle,
                calibration,
                span=config.span,
                sbi_tokens=config.sbi_tokens,
                last_state=config.last_state,
                similarity=config.similarity,
                batch_size=config.batch_size,
                on_progress=job.on_progress,
            )
        measurement.save(path)
    job.results.note()


def _prune(job: Job, bundle: Bundle, calibration: Tensor) -> None:
    results, config = job.results, job.config
    _check(bundle, config)
    if "recovery" in results.values:  # an interrupted run had come so far
        plan = job.run.plan()
        assert plan is not None
        result = Result(replay(bundle, plan), plan)
    else:
        result = _compress(job, bundle, calibration)
        if config.recover:
            result = _recover(job, bundle, result)
    results.note(pruned=size_of(result.bundle))
    evaluate(config, bundle, result.bundle, results, job.shared, job.on_progress)
    if config.keep_model and not (job.run.path / "model").exists():
        emit(job.on_progress, "save", 0, 1, "Saving the pruned model")
        with results.timed("save"):
            save(result.bundle, job.run.path / "model", config.save_dtype, results=results.values)
        emit(job.on_progress, "save", 1, 1, "Saved the pruned model")
    if config.keep_model:
        results.note(model_files=digests(job.run.path / "model"))
    results.note(model_folder="model" if config.keep_model else None, plan=file_id(job.run.path / PLAN))


def _check(bundle: Bundle, config: RunConfig) -> None:
    """Refuse before the work what would fail after it: in a model that lies partly outside of memory, or on saving."""
    if config.recover:
        check_in_memory(bundle)
    if config.keep_model:
        refuse_unheld(bundle.model, config.save_dtype)
    if config.keep_model and config.save_dtype not in (None, _dtype(bundle)) and is_offloaded(bundle.model):
        raise ComeError(
            "A model that lies partly outside of memory is saved in its own dtype only.",
            f"Load it in {config.save_dtype} (--dtype) instead.",
        )


def _compress(job: Job, bundle: Bundle, calibration: Tensor) -> Result:
    """The pruned model; its plan is in plan.json after every step, and what lay there is replayed first.

    A step-by-step method goes on from what it came to for a milder target of the same sweep.
    """
    config, results, path = job.config, job.results, job.run.path / "plan.json"
    options = _options(config)
    done = job.run.plan()
    if done is not None and any(note.startswith(RECOVERED) for note in done.notes):
        done = None  # killed before its results said so: the recovery goes on from its checkpoints, behind the pruning
    history = [record for step in (done.steps if done else []) for record in _replayed(step)]
    target = checked(config)[1]
    chain = job.shared.chain(config, options) if done is None else None
    if chain is not None and target is not None and target <= chain.plan.layers:
        done, history = chain.plan_for(target), list(chain.history)
        results.add_seconds("compress", chain.seconds)
    emit(job.on_progress, "compress", 0, 1000, f"Pruning with {method(config.method).title}")
    with results.timed("compress"):
        result = compress(
            bundle,
            calibration,
            config.method,
            target_layers=config.target_layers,
            sparsity=config.sparsity,
            on_progress=job.on_progress,
            done=done,
            on_step=lambda plan: plan.write(path),
            measured=job.shared.measured,
            **options,
        )
    if not path.exists():
        result.plan.write(path)
    if "history" not in results.values:
        before = [] if result.whole else history
        results.note(history=[*before, *(record.to_dict() for record in result.history)])
    if method(config.method).goes_on(options):
        job.shared.keep_chain(
            config, options, Chain(result.plan, results.values["history"], results.seconds["compress"])
        )
    return result


def _recover(job: Job, original: Bundle, pruned: Result) -> Result:
    """The pruned model with what its size allows given back; its numbers without that are noted first."""
    config, results, folder = job.config, job.results, job.run.path / "checkpoint"
    results.note(unrecovered=size_of(pruned.bundle))
    evaluate_predictions(config, original, pruned.bundle, results, job.shared, job.on_progress, "unrecovered")
    tokens = job.shared.tokens(original, config, "recovery", job.on_progress)
    with results.timed("recover"):
        result = recover(
            pruned.bundle,
            original,
            tokens,
            config.recover,
            on_progress=job.on_progress,
            checkpoint=folder,
            stop=(job.run.path / STOP_REQUEST).exists,
            **config.recover_options,
        )
    result.plan.write(job.run.path / "plan.json")
    results.note(recovery={"how": config.recover, **text_facts(config, "recovery", tokens, original.tokenizer)})
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _options(config: RunConfig) -> dict[str, Any]:
    """The method's options; batch size and seed are the run's, unless they are given there."""
    options, known = dict(config.options), method(config.method).defaults()
    if config.batch_size is not None and "batch_size" in known:
        options.setdefault("batch_size", config.batch_size)
    if "seed" in known:
        options.setdefault("seed", config.seed)
    return options


def _replayed(step: Step) -> list[dict[str, Any]]:
    """The records of a step that an interrupted process took: what was measured for it is not in the plan."""
    match step:
        case Remove():
            return [StepRecord((layer, layer)).to_dict() for layer in step.layers]
        case Concatenate():
            return [StepRecord(step.window, tuple(step.ratio)).to_dict()]
        case Average():
            return [StepRecord(step.window, tuple(step.weights)).to_dict()]
        case Mask():
            return [StepRecord((layer, layer)).to_dict() for layer in sorted({*step.kv_groups, *step.channels})]
    return []


def _dtype(bundle: Bundle) -> str:
    return str(bundle.dtype).removeprefix("torch.")
