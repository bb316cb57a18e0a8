"""No run is done with a blank: a model that gives no numbers ends it, with the layer or the weights and what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from come.cli import main
from come.cli.screen import show_json
from come.errors import ComeError
from come.runs import execute, list_runs, reference_cache
from come.runs.results import Results
from tests.runs.conftest import Create
from tests.tiny import tiny_folder, tiny_model, tiny_tokenizer

SMALL = ("--tokens", "512", "--seq-len", "64")


def change(folder: Path, name: str, value: float, factor: float = 1.0) -> None:
    """Spoil one of a folder's weights, in whichever of its files that lies."""
    for path in folder.glob("*.safetensors"):
        state = load_file(path)
        if name in state:
            state[name] = (state[name].float() * factor).clamp(-6e4, 6e4).to(state[name].dtype)
            if math.isnan(value):
                state[name][0, 0] = value
            save_file(state, path, {"format": "pt"})
            return
    raise AssertionError(f"{folder} has no {name}")


@pytest.fixture
def overflowing(tmp_path: Path) -> str:
    """Weights in float16, finite all of them, behind which values are not."""
    folder = tmp_path / "overflowing"
    tiny_model(layers=6).half().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    change(folder, "model.layers.2.mlp.down_proj.weight", 0.0, 1e6)
    return str(folder)


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """One weight of a file among several is no number."""
    folder = tmp_path / "damaged"
    tiny_model("qwen2", layers=6).save_pretrained(folder, max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    change(folder, "model.layers.4.self_attn.o_proj.weight", math.nan)
    return str(folder)


MODELS = {
    "overflowing": "In layer 2 (the first is 0) the model's values overflow in float16. Use bfloat16 or float32.\n",
    "damaged": "Some of the model's weights are not numbers, first of all in model.layers.4.self_attn.o_proj.weight. "
    "Fetch or convert the model again.\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate",),
        ("evaluate", "--json"),
        ("evaluate", "--tasks", "facts_cloze", "--limit", "2"),
        ("evaluate", "--against", "ITSELF"),
        ("analyze",),
        ("run", "-n", "4", "--method", "random", "--evaluation-tokens", "256"),
        ("run", "-n", "4", "--method", "random", "--evaluate", "acc", "--tasks", "facts_cloze", "--limit", "2"),
        ("run", "-n", "4", "--method", "shortgpt", "--evaluate", "none", "--json"),
    ],
    ids=" ".join,
)
def test_every_command_names_the_place_and_ends_with_2(
    kind: str,
    command: tuple[str, ...],
    request: pytest.FixtureRequest,
    text: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = request.getfixturevalue(kind)
    asked = [model if word == "ITSELF" else word for word in command]
    on_text = ["--text", str(text), *SMALL] if "--tasks" not in asked or asked[0] == "run" else []
    capsys.readouterr()  # what the fixtures wrote
    assert main([asked[0], "--model", model, *on_text, *asked[1:]]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", MODELS[kind])
    for run in list_runs():
        state = run.state()
        assert state.status == "failed" and f"{state.error} {state.hint}\n" == err


def test_a_dtype_that_holds_the_values_is_what_the_sentence_says(
    overflowing: str, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dtype in ("bfloat16", "float32"):
        assert main(["evaluate", "-m", overflowing, "--text", str(text), *SMALL, "--dtype", dtype, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["perplexity"] > 0


@pytest.mark.slow
def test_an_original_that_was_kept_without_its_numbers_is_measured_again(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions kept those of a model that overflows."""
    run = new_run()
    execute(run)
    (path,) = (reference_cache.settings.home() / "measured").glob("*.safetensors")
    kept = load_file(path)
    told = json.dumps({"value": math.nan, "stderr": math.nan, "tokens": 252})
    save_file(kept, path, {"perplexity": told})
    again = new_run(method="random")
    execute(again)
    assert again.results()["original"]["perplexity"] == run.results()["original"]["perplexity"]


def test_results_hold_numbers_only(new_run: Create) -> None:
    results = Results(new_run())
    results.note(original={"perplexity": 12.0})
    for metrics, told in (
        ({"pruned": {"accuracy": {"mine": {"acc": math.nan}}}}, "acc of mine of accuracy of pruned"),
        ({"history": [{"block_influence": [0.1, math.inf]}]}, "1 of block_influence of 0 of history"),
    ):
        with pytest.raises(ComeError, match=told):
            Results(results_of := new_run()).note(**metrics)
        assert results_of.results() == {}


def test_what_earlier_versions_wrote_for_no_number_is_read_as_nothing(
    new_run: Create, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run()
    (run.path / "results.json").write_text(
        '{"pruned": {"perplexity": NaN, "kl": Infinity, "layers": 4, "parameters": 9, "bytes": 36}}'
    )
    assert run.results() == {"pruned": {"perplexity": None, "kl": None, "layers": 4, "parameters": 9, "bytes": 36}}
    show_json({"value": math.nan, "list": [1.5, -math.inf], "path": Path("x")})
    strict: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert strict == {"value": None, "list": [1.5, None], "path": "x"}


def test_a_training_that_diverges_keeps_the_best_and_says_at_which_step(
    model: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--recover-option", "lr=1e14", "--recover-option", "steps=4", "--recover-option", "clip=1e14")
    asked = ["run", "-m", str(model), "--text", str(text), *SMALL, "-n", "4", "--method", "shortgpt"]
    assert main([*asked, "--recover", "logits", *options, "--recover-tokens", "512", "--evaluation-tokens", "256"]) == 0
    out = capsys.readouterr().out
    assert "Recovery, logits: held-out loss" in out and "diverged at step 2 with a learning rate of 1e+14" in out
    (run,) = list_runs()
    results = run.results()
    assert results["pruned"]["perplexity"] == pytest.approx(results["unrecovered"]["perplexity"], rel=1e-6)
    json.loads((run.path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    for line in (run.path / "events.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_a_perplexity_too_large_to_hold_is_in_the_table_and_on_the_card(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder(tmp_path, tie_word_embeddings=False)
    for path in folder.glob("*.safetensors"):
        state = load_file(path)
        state["lm_head.weight"] *= 1e4
        save_file(state, path, {"format": "pt"})
    asked = ["--model", str(folder), "--text", str(text), *SMALL]
    assert main(["evaluate", *asked]) == 0
    assert "perplexity > 1e30, " in capsys.readouterr().out
    assert main(["run", *asked, "-n", "4", "--method", "random", "--evaluation-tokens", "256"]) == 0
    assert capsys.readouterr().out.count("> 1e30") == 2
    (run,) = list_runs()
    card = (run.path / "model" / "README.md").read_text()
    assert card.count("| > 1e30 |") == 2 and "nan" not in card and "inf" not in card.split("## Perplexity")[1][:300]
    assert torch.isfinite(torch.tensor(run.results()["pruned"]["kl"]))
