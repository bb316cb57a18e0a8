"""What a finished run offers: plan, model, check, card, commands, room on the disk; and how files are sent."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

import come.runs
from app import formats
from app.components import packing
from app.run import take_home
from app.server import downloads
from come.runs import Run
from come.serving import pack
from come.serving.side_jobs import SideJob
from tests.app.conftest import Lab
from tests.rewriting import rewrite_plan

Visit = Callable[..., AppTest]


def by_method(lab: Lab, method: str) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == method and run.plan())


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def as_packed(run: Run, dtype: str = "float32") -> Path:
    """The packed model, as the job would leave it; here in this process."""
    file = run.path / "takeaway" / f"{run.id}-{dtype}.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{file.stem}/README.md", "---\ntags: x\n---\n\n# A card\n")
    told = {"status": "done", "values": {"bytes": file.stat().st_size, "file": file.name}}
    (file.parent / f"{dtype}.json").write_text(json.dumps(told))
    return file


def test_a_finished_run_offers_all_of_it(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    at = fine(visit("run", run=run.id))
    assert any(each.value == "Take it home" for each in at.header)
    assert at.button(key=f"pack-float32-{run.id}") and not at.button(key=f"reload-{run.id}").disabled
    assert any(each.value.startswith("come run ") and "come rebuild " in each.value for each in at.code)
    assert any("On the disk: this run" in each.value for each in at.caption)


def test_packing_is_started_in_the_dtype_that_was_chosen(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []
    monkeypatch.setattr(pack, "start", lambda run, what: started.append((run.id, what)))
    run = by_method(lab, "come")
    at = fine(visit("run", run=run.id))
    at.get_by_key(f"take-dtype-{run.id}").set_value("bfloat16").run()
    at.button(key=f"pack-bfloat16-{run.id}").click().run()
    assert started == [(run.id, "bfloat16")]


def test_a_packed_model_is_a_link_where_the_server_sends_from_disk(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = by_method(lab, "come")
    file = as_packed(run)
    at = fine(visit("run", run=run.id))
    assert any(button.label.startswith("Download ") for button in at.get("download_button"))
    monkeypatch.setattr(downloads, "served", True)
    at = fine(visit("run", run=run.id))
    assert f"/takeaway/{run.id}/{file.name}" in [link.proto.url for link in at.get("link_button")]
    assert not at.get("download_button")  # Streamlit's forgets its file when the page is drawn anew


def test_a_plan_and_what_a_page_wrote_are_sent_whatever_is_drawn_meanwhile(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "served", True)
    run = by_method(lab, "come")
    at = fine(visit("run", run=run.id))
    links = {link.label: link.proto.url for link in at.get("link_button")}
    client = TestClient(Starlette(routes=downloads.ROUTES))
    plan = client.get(links["Download the plan"])
    assert plan.content == (run.path / "plan.json").read_bytes() and "attachment" in plan.headers["content-disposition"]
    at.run()
    fine(visit("plan"))
    card = client.get(links["Download the model card"])
    assert card.text == take_home.card_of(run)
    assert card.headers["content-disposition"] == "attachment; filename*=utf-8''README.md"
    assert client.get(f"{downloads.WRITTEN}/0").status_code == 404


def test_what_pages_wrote_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "KEPT", 250)
    client = TestClient(Starlette(routes=downloads.ROUTES))
    first, *_, last = [downloads.written(str(number) * 100, "a.txt", "text/plain") for number in range(3)]
    assert client.get(first).status_code == 404 and client.get(last).text == "2" * 100


def test_what_is_packed_already_is_offered_first(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    as_packed(run, "bfloat16")
    at = fine(visit("run", run=run.id))
    assert at.radio(key=f"take-dtype-{run.id}").value == "bfloat16"
    assert any(button.label.startswith("Download ") for button in at.get("download_button"))


def test_a_large_model_never_passes_through_memory(visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = by_method(lab, "come")
    file = as_packed(run)
    monkeypatch.setattr(packing, "THROUGH_MEMORY", 1)
    at = fine(visit("run", run=run.id))
    assert any(each.value == str(file) for each in at.code)


def test_only_packed_files_of_runs_are_sent(lab: Lab) -> None:
    run = by_method(lab, "come")
    file = as_packed(run)
    client = TestClient(Starlette(routes=downloads.ROUTES))
    answer = client.get(f"/takeaway/{run.id}/{file.name}", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200 and answer.content == file.read_bytes()
    assert "attachment" in answer.headers["content-disposition"]
    assert client.get(f"/takeaway/{run.id}/{file.name}", headers={"Range": "bytes=0-9"}).status_code == 206
    for path in (f"{run.id}/config.json", f"{run.id}/..%2Fplan.json", "none/a.zip", f"{run.id}/float32.json"):
        assert client.get(f"/takeaway/{path}").status_code == 404


def test_links_are_not_followed_and_a_demonstration_tells_no_paths(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run, client = by_method(lab, "come"), TestClient(Starlette(routes=downloads.ROUTES))
    kept = (run.path / "plan.json").read_bytes()
    assert client.get(f"/takeaway/{run.id}/plan.json").content == kept and str(lab.model.parent).encode() in kept
    monkeypatch.setenv("COME_DEMO", "1")
    told = client.get(f"/takeaway/{run.id}/plan.json").json()
    assert told["base"]["source"] == lab.model.name and told["steps"] == json.loads(kept)["steps"]
    secret = lab.model.parent / "secret.zip"
    secret.write_text("a secret")
    (run.path / "takeaway").mkdir(exist_ok=True)
    (run.path / "takeaway" / "link.zip").symlink_to(secret)
    (run.path / "plan.json").unlink()
    (run.path / "plan.json").symlink_to(secret)
    for name in ("plan.json", "link.zip", f"{'b' * 5000}.zip"):
        assert client.get(f"/takeaway/{run.id}/{name}").status_code == 404


def test_what_a_model_will_take_is_its_weights_and_what_a_plan_will_take_is_its_own(lab: Lab) -> None:
    run = by_method(lab, "come")
    weights = 2 * run.results()["pruned"]["parameters"]
    plan = json.loads((run.path / "plan.json").read_text())
    (run.path / "weights-1.safetensors").write_bytes(b"0" * 1000)
    plan["steps"].append({"file": "weights-1.safetensors"})
    (run.path / "plan.json").write_text(json.dumps(plan))
    beside = (run.path / "plan.json").stat().st_size + 1000
    assert pack.expected_bytes(run, "bfloat16") == pack.expected_bytes(run, "gguf-float16") == weights
    assert pack.expected_bytes(run, pack.PLAN) == beside


def test_a_gguf_file_is_started_in_the_dtype_that_was_chosen_and_sent(
    visit: Visit, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []
    monkeypatch.setattr(pack, "start", lambda run, what: started.append((run.id, what)))
    run = by_method(lab, "come")
    at = fine(visit("run", run=run.id))
    at.get_by_key(f"take-form-{run.id}").set_value("gguf").run()
    dtypes = fine(at).get_by_key(f"take-gguf-dtype-{run.id}")
    parameters = run.results()["pruned"]["parameters"]
    assert len(dtypes.options) == 4 and dtypes.value == "float16"
    assert any(formats.human_bytes(parameters * 2) in label for label in dtypes.options), dtypes.options
    dtypes.set_value("q8_0").run()
    at.button(key=f"pack-gguf-q8_0-{run.id}").click().run()
    assert started == [(run.id, "gguf-q8_0")]

    file = run.path / "takeaway" / f"{run.id}-q8_0.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF" * 100)
    (file.parent / "gguf-q8_0.json").write_text(json.dumps({"status": "done", "values": {}}))
    before = take_home.removable(run)
    monkeypatch.setattr(downloads, "served", True)
    link = next(link for link in fine(at.run()).get("link_button") if file.name in link.proto.url)
    assert link.proto.url == f"/takeaway/{run.id}/{file.name}" and "400" in link.label
    answer = TestClient(Starlette(routes=downloads.ROUTES)).get(link.proto.url)
    assert answer.content == file.read_bytes() and answer.headers["content-type"] == "application/octet-stream"
    file.unlink()
    assert take_home.removable(run) == before - 400


def test_a_family_that_gguf_cannot_hold_is_told_and_not_offered(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    plan = json.loads((run.path / "plan.json").read_text())
    plan["base"]["model_type"] = "olmo2"
    rewrite_plan(run, plan)
    at = fine(visit("run", run=run.id))
    assert any(each.value.startswith("OLMo 2 models cannot be written as GGUF") for each in at.caption)
    assert at.get_by_key(f"take-dtype-{run.id}") and not any("come export" in each.value for each in at.code)
    with pytest.raises(KeyError):
        at.get_by_key(f"take-form-{run.id}")


def test_removing_models_keeps_the_plans(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    at = fine(visit("run", run=run.id))
    at.button(key="drop-own").click().run()
    fine(at)
    assert not (run.path / "model").exists() and (run.path / "plan.json").is_file()
    assert at.button(key=f"reload-{run.id}").disabled


def test_a_card_is_read_below_the_pages_headings() -> None:
    assert take_home.readable("---\ntags:\n- a\n---\n\n# Name\n\n## Plan\nText") == "### Name\n\n#### Plan\nText"
    assert take_home.readable("plain") == "plain"


def test_a_reload_is_told_in_words() -> None:
    values = {
        "transformers": "5.0",
        "layers": 27,
        "parameters": 107_400_000,
        "dtype": "float32",
        "load_seconds": 1.23,
        "prompt": "The capital of France is",
        "next": " Paris",
        "time": time.time(),
        "checked": "model",
    }
    words = take_home.reload_sentence(SideJob("done", values=values))
    assert "27 layers, 107.4 M parameters in float32" in words and "“Paris”" in words
