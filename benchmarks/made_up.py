"""An analysis and a pruned run of the size of LLaMA-2-7B, made up: what a page has to draw, where no such model is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import come
import come.models
from come import runs
from come.measurement.measurement import Measurement
from come.plan.plan import Base, Plan
from come.pruning.draft import steps_by_hand
from come.request import RunConfig
from come.runs import Run

LAYERS, HEADS, HEAD_DIM, CHANNELS = 32, 32, 128, 11008
TARGET = 24


def lab(folder: Path) -> tuple[Path, Run]:
    """A model's folder, its weights a hole, and beside it runs on it: an analysis, and CoMe to 24 layers.

    Returns:
        The model's folder, and the run that pruned it.
    """
    model = folder / "llama-2-7b-size"
    # As in the published config of LLaMA-2-7B.
    config = LlamaConfig(
        hidden_size=HEADS * HEAD_DIM, intermediate_size=CHANNELS, num_hidden_layers=LAYERS, num_attention_heads=HEADS
    )
    config.save_pretrained(model)
    empty_weights(config, model / "model.safetensors")
    words = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(model)
    made = measurement()
    analysis = _done(RunConfig(kind="analyze", model=str(model)), folder / "runs")
    made.save(analysis.path / "analysis.safetensors")
    pruned = _done(RunConfig(model=str(model), method="come", target_layers=TARGET, keep_model=False), folder / "runs")
    plan(model, made).write(pruned.path / "plan.json")
    return model, pruned


def empty_weights(config: LlamaConfig, file: Path) -> None:
    """A file of weights of that size, all 0 and none of them written: the pages ask only for its head."""
    with torch.device("meta"):
        tensors = LlamaForCausalLM(config).state_dict()
    head, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.numel()
        head[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    words = json.dumps(head).encode()
    with file.open("wb") as out:
        out.write(len(words).to_bytes(8, "little") + words)
        out.truncate(8 + len(words) + end)


def measurement(seed: int = 0) -> Measurement:
    """A measurement with a few loud channels a layer, and neighbours that are more alike the later they come."""
    generator = torch.Generator().manual_seed(seed)

    def loud(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).mul(1.2).exp()

    turned = torch.rand(LAYERS, generator=generator).mul(0.1).add(0.02) + torch.linspace(0.3, 0, LAYERS)
    turned[-1] += 0.3
    angle = torch.cat([torch.zeros(1), turned.cumsum(0)])
    between = (angle[:, None] - angle[None]).abs().clamp_max(1.0)
    attention, channels = loud(LAYERS, HEADS * HEAD_DIM), loud(LAYERS, CHANNELS)
    heads = attention.unflatten(1, (HEADS, HEAD_DIM)).mean(2)
    skip = between.diagonal(2).clone()
    return Measurement(
        block_influence=turned,
        skip_influence=skip,
        mlp_sensitivity=channels,
        attention_sensitivity=attention,
        head_sensitivity=heads,
        kv_group_sensitivity=heads.clone(),
        block_influence_halves=turned.repeat(2, 1) * torch.tensor([[0.97], [1.03]]),
        skip_influence_halves=skip.repeat(2, 1) * torch.tensor([[0.97], [1.03]]),
        mlp_sensitivity_halves=channels.repeat(2, 1, 1),
        kv_group_sensitivity_halves=heads.repeat(2, 1, 1),
        similarity={"cosine": 1 - between, "angular": between},
        span=2,
        sbi_tokens="all",
        last_state="normed",
        n_tokens=4096,
        seq_len=512,
        cka_tokens=0,
    )


def plan(model: Path, made: Measurement) -> Plan:
    """What one measuring pass would merge, as a plan."""
    facts = come.models.describe(model)
    windows = [(found.first, found.last) for found in come.draft(made, target_layers=TARGET, model=facts)]
    steps = steps_by_hand(made, windows, None, exponent=1.0, floor=0.0)
    base = Base(source=str(model), fingerprint="0" * 64, model_type="llama", layers=LAYERS, parameters=facts.parameters)
    return Plan(base=base, dtype="float32", method="come", steps=steps)


def _done(request: RunConfig, folder: Path) -> Run:
    run = runs.create(request, folder)
    run.update(status="done", started=time.time(), finished=time.time())
    return run
