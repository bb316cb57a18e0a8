"""Packing a run's model and plan, reloading it in plain Transformers, removing it again."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.runs import Run, execute
from come.runs.state import identity
from come.serving import pack, reload_check, side_jobs
from come.serving.pack import drop_model
from come.serving.side_jobs import SideJob
from tests.ggufs import gguf_folder
from tests.tiny import tiny_tokens

Create = Callable[..., Run]


def until_over(look: Callable[[], SideJob]) -> SideJob:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        job = look()
        if job.status in ("done", "failed"):
            return job
        time.sleep(0.2)
    raise AssertionError("it did not end")


@pytest.fixture
def done(new_run: Create) -> Run:
    run = new_run()
    execute(run)
    return run


def here(run: Run, what: str) -> pack.Packed:
    """Packed in this process."""
    (run.path / "takeaway").mkdir(exist_ok=True)
    side_jobs.work(run, run.path / "takeaway" / f"{what}.json", lambda tell: pack._job(run, what, tell))
    return pack.packed(run, what)


def test_the_packed_model_is_the_folder(done: Run, tmp_path: Path) -> None:
    assert pack.packed(done, "float32") == pack.Packed(None, SideJob())
    packed = here(done, "float32")
    assert packed.file is not None and packed.bytes == packed.file.stat().st_size
    with zipfile.ZipFile(packed.file) as archive:
        assert {Path(name).parent.name for name in archive.namelist()} == {packed.file.stem}
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        for path in (done.path / "model").iterdir():
            assert archive.read(f"{packed.file.stem}/{path.name}") == path.read_bytes()
    assert [path.name for path in done.path.glob(".pack-*")] == []


def test_another_dtype_is_made_from_the_plan(done: Run, tmp_path: Path) -> None:
    packed = here(done, "bfloat16")
    assert packed.file is not None
    with zipfile.ZipFile(packed.file) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / packed.file.stem
    ours, kept = come.load(folder), come.load(done.path / "model")
    assert ours.dtype == torch.bfloat16
    for one, other in zip(ours.model.parameters(), kept.model.parameters(), strict=True):
        assert torch.equal(one, other.to(torch.bfloat16))
    assert "Perplexity" in (folder / "README.md").read_text() and (folder / "plan.json").is_file()


@pytest.mark.parametrize(("kept", "dtype"), [("float32", "float16"), ("bfloat16", "float32"), ("", "q8_0")])
def test_a_gguf_file_is_written_from_what_is_kept_or_from_the_plan(
    new_run: Create, tmp_path: Path, kept: str, dtype: str
) -> None:
    run = new_run(model=str(gguf_folder(tmp_path)), target_layers=3, keep_model=bool(kept), save_dtype=kept or None)
    execute(run)
    packed = here(run, f"gguf-{dtype}")
    assert packed.file is not None, packed.job
    assert packed.file.name == f"{run.id}-{dtype}.gguf" and list(run.path.glob(".pack-*")) == []
    ours = AutoModelForCausalLM.from_pretrained(packed.file.parent, gguf_file=packed.file.name, dtype=torch.float32)
    plan = run.plan()
    assert plan is not None
    whole = come.rebuild(None, plan).model  # float32, whatever the run kept
    assert ours.config.num_hidden_layers == 3
    tokens = tiny_tokens()
    with torch.inference_mode():
        worst = float((ours(tokens).logits - whole(tokens).logits).abs().max())
    assert worst < {"float32": 1e-4, "float16": 2e-2, "q8_0": 0.2}[dtype]
    if kept:
        assert here(run, f"gguf-{dtype}").file, "packing again replaces the file"


@pytest.mark.slow
def test_a_run_that_kept_its_plan_only_is_packed_and_reloads(new_run: Create) -> None:
    run = new_run(keep_model=False)
    execute(run)
    with pytest.raises(ComeError, match="keeps no model"):
        reload_check.start(run)
    pack.start(run, "float32")
    assert until_over(lambda: pack.packed(run, "float32").job).status == "done"
    reload_check.start(run)
    job = until_over(lambda: reload_check.reloaded(run))
    assert job.status == "done", job
    assert job.values["layers"] == 4 and job.values["dtype"] == "float32"
    assert not (run.path / "model").exists() and list(run.path.glob(".reload-*")) == []


def test_a_folder_that_does_not_reload_is_told(done: Run) -> None:
    found = reload_check.check(done.path / "model")
    assert found["layers"] == 4 and found["parameters"] == done.results()["pruned"]["parameters"]
    config = done.path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 5}))
    with pytest.raises(ComeError, match="missing"):
        reload_check.check(done.path / "model")
    (done.path / "model" / "model.safetensors").unlink()
    with pytest.raises(ComeError, match="cannot load"):
        reload_check.check(done.path / "model")


def test_what_cannot_be_packed(done: Run, new_run: Create) -> None:
    with pytest.raises(ComeError, match="float8"):
        pack.start(done, "float8")
    with pytest.raises(ComeError, match="float8"):
        pack.start(done, "gguf-float8")
    with pytest.raises(ComeError, match="no plan"):
        pack.start(new_run(kind="analyze", target_layers=None), "float32")
    waiting = new_run()
    (waiting.path / "plan.json").write_text("{}")
    with pytest.raises(ComeError, match="is queued"):
        pack.start(waiting, "float32")


def test_a_full_disk_is_one_sentence(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_MARGIN", 1 << 60)
    packed = here(done, "float32")
    assert packed.file is None and "on the disk" in packed.job.error
    assert [path.suffix for path in (done.path / "takeaway").iterdir()] == [".json"]


def test_a_plan_is_packed_with_its_weights(done: Run) -> None:
    plan = done.plan()
    assert plan is not None and pack.plan_files(done) == [done.path / "plan.json"]
    name = "model.norm.weight"
    plan.with_tensors({name: torch.zeros(come.load(done.path / "model").shape.hidden_size)}).write(
        done.path / "plan.json"
    )
    (document, tensors) = pack.plan_files(done)
    packed = here(done, "plan")
    assert packed.file is not None
    with zipfile.ZipFile(packed.file) as archive:
        assert {Path(entry).name for entry in archive.namelist()} == {document.name, tensors.name}
    shutil.copy(tensors, done.path / "model")  # as a run that kept its model has it
    packed = here(done, "float32")
    assert packed.file is not None
    with zipfile.ZipFile(packed.file) as archive:  # the model's own weights have them
        names = {Path(entry).name for entry in archive.namelist()}
    assert {"plan.json", "model.safetensors"} <= names and tensors.name not in names


def test_a_job_whose_process_is_gone_has_failed(done: Run) -> None:
    file = done.path / "reload.json"
    file.write_text(json.dumps({"status": "working", "pid": 2**22 + 1, "process_started": 1.0, "host": ""}))
    assert side_jobs.read(file).status == "failed"
    file.write_text("{")
    assert side_jobs.read(file).status == "none"


def test_a_model_that_is_being_packed_stays(done: Run) -> None:
    told = {"status": "working", **identity(os.getpid())}
    (done.path / "takeaway").mkdir()
    (done.path / "takeaway" / "float32.json").write_text(json.dumps(told))
    with pytest.raises(ComeError, match="being packed"):
        drop_model(done)
    assert (done.path / "model").is_dir()


def test_removing_a_model_keeps_plan_and_figures(done: Run, new_run: Create) -> None:
    here(done, "float32")
    before = done.size_bytes()
    freed = drop_model(done)
    assert freed > 0 and done.size_bytes() == before - freed
    assert done.plan() is not None and done.results()["pruned"]
    assert not (done.path / "model").exists() and pack.packed(done, "float32") == pack.Packed(None, SideJob())
    assert drop_model(done) == 0
    with pytest.raises(ComeError, match="is queued"):
        drop_model(new_run())
