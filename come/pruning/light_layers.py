"""Light layers: the few that are trained to do what a block of layers did (LLM-Streamline, arXiv 2403.19135).

A light layer that is only an FFN is a whole layer whose attention gives nothing: its output map is zero. So the
checkpoint is a plain one of the family, and that FFN is the family's own (SwiGLU in Llama), with its norm and its
residual connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import Call, LayerRunner
from come.models import Bundle
from come.models.not_finite import why_not_finite
from come.training.layer_job import LayerJob, LayerOptions, calls_for, threads, train_layer
from come.training.states import StateStore, advance, embed
from come.training.student import trainable_bundle
from come.training.trainer import Outcome, Report, TrainOptions, held_out_sequences, train
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModel, WholeModelOptions

Light = Literal["layer", "ffn"]


@dataclass(frozen=True)
class LightBlock:
    """A model in which light layers stand for a block of the original.

    Attributes:
        original: the model as it was.
        bundle: the model with the light layers, in numbers below its own.
        layers: the light layers; the first of them is where the block begins.
        last: the block's last layer, of the original.
        light: what they are.
    """

    original: Bundle
    bundle: Bundle
    layers: range
    last: int
    light: Light

    @property
    def names(self) -> list[list[str]]:
        """For each light layer, the parameters that are trained, by their names in the layer."""
        return [trained_names(self.bundle, layer, self.light) for layer in self.layers]

    def full(self, layer: int, name: str) -> str:
        """The name in the model of a parameter of a layer."""
        return f"{self.bundle.family.layers}.{layer}.{name}"


Trained = tuple[dict[str, Tensor], Outcome]
"""New values of the light layers' parameters by their names in the model, float32, and how the training went."""
ON_TEXT = VocabularyLoss(teacher=0.0, text=1.0)


def trained_to_states(block: LightBlock, tokens: Tensor, options: LayerOptions, report: Report) -> Trained:
    """Train light layers to make of what enters the block what leaves it."""
    original, runner = LayerRunner(block.original), LayerRunner(block.bundle)
    module = InTurn([block.bundle.layers[layer] for layer in block.layers])
    calls = [calls_for(runner, layer, tokens, options) for layer in block.layers]
    full = {
        f"{path}.{name}": block.full(layer, name)
        for path, layer, names in zip(module.paths, block.layers, block.names, strict=True)
        for name in names
    }
    first, shape = block.layers[0], block.bundle.shape
    with StateStore(tokens, shape.hidden_size, block.bundle.dtype, 2, options.memory_budget) as store:
        entering = advance(original, tokens, embed(original, tokens, store.new()), range(first))
        leaving = advance(original, tokens, entering, range(first, block.last + 1), store.new())
        job = LayerJob(
            layer=first,
            module=module,
            family=block.bundle.family,
            calls={size: (tuple(each[size] for each in calls), {}) for size in calls[0]},
            entering=entering,
            leaving=leaving,
            held_out=held_out_sequences(tokens, options),
            device=next(module.parameters()).device,
            options=options,
            threads=options.threads or torch.get_num_threads(),
            layers=module.paths,
            trains=frozenset(full),
        )
        found = train_layer(job, report)
    return {full[name]: value for name, value in found.tensors.items()}, found.outcome


def trained_on_text(block: LightBlock, tokens: Tensor, options: LayerOptions, report: Report) -> Trained:
    """Train light layers on the next tokens of the text, all else of the model as it is."""
    bundle, first, runner = block.bundle, block.layers[0], LayerRunner(block.original)
    trainer = WholeModelOptions(**options.model_dump(include=set(TrainOptions.model_fields)))
    ours = {block.full(layer, name) for layer, names in zip(block.layers, block.names, strict=True) for name in names}
    student, parameters = trainable_bundle(bundle, ours.__contains__)
    with (
        threads(options.threads or torch.get_num_threads()),
        StateStore(tokens, bundle.shape.hidden_size, bundle.dtype, 1, options.memory_budget) as store,
    ):
        entering = advance(runner, tokens, embed(runner, tokens, store.new()), range(first))
        outcome = train(
            WholeModel(student, parameters, None, tokens, ON_TEXT, trainer, (first, entering)),
            trainer,
            report=report,
            why_not_finite=lambda: why_not_finite(bundle, tokens),
        )
    return {name: parameter.detach().cpu() for name, parameter in parameters.items()}, outcome


def at_random(block: LightBlock, seed: int) -> dict[str, Tensor]:
    """New values for the trained parameters of light layers, by name, as Transformers begins a model of the family.

    Weights of maps are drawn with the config's ``initializer_range`` as their standard deviation, norms scale by 1, and
    biases are 0.
    """
    family, config = block.bundle.family, block.bundle.model.config
    spread = float(getattr(config, "initializer_range", 0.02))
    generator, found = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for layer, names in zip(block.layers, block.names, strict=True):
        for name in names:
            path, _, kind = name.rpartition(".")
            value = torch.zeros(block.bundle.layers[layer].get_parameter(name).shape)
            if kind != "bias" and path in family.norm_paths:
                value += 1 - family.norm_offset
            elif kind != "bias":
                value.normal_(0, spread, generator=generator)
            found[block.full(layer, name)] = value
    return found


def trained_names(bundle: Bundle, layer: int, light: Light) -> list[str]:
    """The parameters of a light layer that are trained, by their names in the layer: all, or those of its FFN."""
    family, module = bundle.family, bundle.layers[layer]
    names = [name for name, _ in module.named_parameters()]
    if light == "layer":
        return names
    # Of norms in front of a sub-layer the first that a layer has feeds it.
    before = next((path for path in family.ffn_norms if _has(module, path)), None)
    parts = [path for path in (*family.ffn_paths, before, family.ffn_post_norm) if path is not None]
    return [name for name in names if name.rpartition(".")[0] in parts]


class InTurn(nn.Module):
    """Layers that run one after the other, each with its own arguments beside the hidden states."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where in this module each layer is."""
        return tuple(f"layers.{number}" for number in range(len(self.layers)))

    def forward(self, hidden_states: Tensor, *calls: Call) -> Tensor:
        """What leaves the last of them, (sequences, tokens, hidden_size)."""
        for layer, (args, kwargs) in zip(self.layers, calls, strict=True):
            output = layer(hidden_states, *args, **kwargs)
            hidden_states = output if isinstance(output, Tensor) else output[0]
        return hidden_states


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True
