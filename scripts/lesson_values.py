"""Measures anew what the lesson shows before the live model answers: .venv/bin/python -m scripts.lesson_values

The bundled model reads the example's text again: the activations of one layer (all it takes for the sensitivity of
its channels), and what merging a few pairs of layers in two ways comes to. Both go to app/learn/values.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import come
from app.learn import material
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.measurement import Measurement
from come.measurement.statistics import column_norms
from come.serving.whatif.question import Merge, Question
from come.serving.whatif.whatif import what_if
from come.text import tokens

FIRST_TOKEN, SHOWN_TOKENS = 62, 17  # of the first sequence: one whole line


def main() -> None:
    """Measure, and write app/learn/values."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    run = material.analysis_run()
    if run is None:
        raise SystemExit("The shipped example has no analysis.")
    config, measured = run.config, Measurement.load(run.path / "analysis.safetensors")
    bundle = come.load(config.model, dtype="float32")
    calibration = tokens(
        bundle, config.text, config.n_tokens, config.seq_len, "calibration", config.seed, bos=config.bos
    )
    layer = int(measured.skip_influence.argmin())
    loud = torch.cat(list(_activations(bundle, calibration, layer))).abs()
    reach = column_norms(bundle.family, bundle.layers[layer], bundle.family.ffn_output)
    torch.testing.assert_close(loud.mean(0) * reach, measured.mlp_sensitivity[layer], rtol=1e-3, atol=1e-3)
    shown = slice(FIRST_TOKEN, FIRST_TOKEN + SHOWN_TOKENS)
    words = [bundle.tokenizer.decode([token]) for token in calibration[0, shown].tolist()]
    material.VALUES.mkdir(exist_ok=True)
    save_file(
        {"activation": loud[shown].contiguous(), "mean_activation": loud.mean(0), "reach": reach},
        material.VALUES / "activations.safetensors",
        metadata={"layer": str(layer), "words": json.dumps(words, ensure_ascii=False)},
    )
    subject = material.subject(run)
    held_out = tokens(
        bundle, subject.text, subject.n_tokens, subject.seq_len, "evaluation", subject.evaluation_seed, bos=subject.bos
    )
    engine = what_if(bundle, held_out, measured)
    answers: dict[str, Any] = {"original": engine.answer(Question()).model_dump()}
    for first, last in material.pairs(measured):
        for how in material.HOWS:
            merge = Merge(first=first, last=last, how=how)
            answers[f"{how} {first}-{last}"] = engine.answer(Question(merges=(merge,))).model_dump()
    (material.VALUES / "answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


@torch.inference_mode()
def _activations(bundle: come.Bundle, calibration: Tensor, layer: int) -> Iterator[Tensor]:
    """What enters the FFN's output map of a layer, (tokens, channels), batch by batch."""
    runner = LayerRunner(bundle)
    seen: list[Tensor] = []
    for batch in batches(calibration, None):
        hidden_states = runner.enter(batch.tokens)
        for below in range(layer):
            hidden_states = runner.run(below, hidden_states)
        with runner.watching(layer, {bundle.family.ffn_output: seen.append}):
            runner.run(layer, hidden_states)
        yield seen.pop().flatten(0, 1).float()


if __name__ == "__main__":
    main()
