"""BOS on the pages: chosen on the model page, kept in the link, and part of which analysis is whose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from come.errors import ComeError
from tests.app.conftest import Lab
from tests.tiny import tiny_folder, tiny_model, tiny_tokenizer, tiny_tokenizer_with

Visit = Callable[..., AppTest]
ANALYSED = "Analysed over 1,024 tokens."


def fine(at: AppTest) -> AppTest:
    assert not at.exception and not [error.value for error in at.error]
    return at


def told(at: AppTest) -> list[str]:
    return [each.value for each in at.success]


def in_the_link(at: AppTest) -> str:
    value = at.query_params["bos"]
    return value if isinstance(value, str) else value[0]


def test_a_choice_goes_into_the_link_and_to_another_analysis(visit: Visit) -> None:
    at = fine(visit("model", bos="auto"))
    assert at.segmented_control(key="bos").value == "auto" and ANALYSED in told(at)
    at = fine(at.segmented_control(key="bos").set_value("always").run())
    assert in_the_link(at) == "always" and ANALYSED not in told(at)


def test_an_old_link_means_none_which_is_the_same_where_the_tokenizer_puts_none(visit: Visit) -> None:
    at = fine(visit("model"))
    assert at.segmented_control(key="bos").value == "never" and ANALYSED in told(at)


@pytest.mark.slow
def test_an_old_link_is_not_shown_what_was_measured_behind_bos(visit: Visit, lab: Lab, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path)
    tiny_tokenizer_with("<s>").save_pretrained(model)
    come.runs.execute(lab.create(kind="analyze", model=str(model)))
    assert ANALYSED in told(fine(visit("model", model=str(model), bos="auto")))
    assert ANALYSED not in told(fine(visit("model", model=str(model))))


@pytest.mark.slow
def test_a_run_that_gave_no_numbers_says_where_on_its_page(visit: Visit, lab: Lab, tmp_path: Path) -> None:
    model = tiny_model(layers=6)
    model.model.layers[2].mlp.down_proj.weight.data.mul_(1e6).clamp_(-6e4, 6e4)
    model.half().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    run = lab.create(method="random", target_layers=4, model=str(tmp_path / "model"))
    with pytest.raises(ComeError):
        come.runs.execute(run)
    at = visit("run", run=run.id)
    assert not at.exception
    shown = " ".join(element.value for element in [*at.error, *at.warning, *at.markdown])
    assert "In layer 2 (the first is 0) the model's values overflow in float16." in shown.replace("\\", "")
