"""What a family's table says: where its models keep the parts of a decoder layer; and a model's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from come.models.offload import weight_of


@dataclass(frozen=True)
class Shape:
    """How many of what a model has; 0 where a config does not say.

    Attributes:
        layers: decoder layers.
        hidden_size: channels of a hidden state.
        heads: query heads of a layer.
        kv_heads: key/value heads of a layer, which is KV groups.
        head_dim: channels of a head.
        channels: FFN channels of a layer.
    """

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    channels: int


def shape_of(config: Any) -> Shape:
    """The shape that a Transformers config describes; of a multimodal one, that of its text part."""
    config = getattr(config, "text_config", None) or config

    def first(*names: str) -> int:
        return next((int(value) for name in names if (value := getattr(config, name, None))), 0)

    hidden, heads = first("hidden_size"), first("num_attention_heads")
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        kv_heads = 1  # Falcon-7B, whatever its num_kv_heads
    elif getattr(config, "new_decoder_architecture", False):
        kv_heads = first("num_kv_heads")
    else:
        kv_heads = first("num_key_value_heads") or heads
    inner = 4 * hidden if hasattr(config, "n_inner") else 0  # GPT-2's None means this
    return Shape(
        layers=first("num_hidden_layers"),
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=first("head_dim") or (hidden // heads if heads else 0),
        channels=first("ffn_hidden_size", "ffn_dim", "n_inner") or inner or first("intermediate_size"),
    )


@dataclass(frozen=True)
class Fused:
    """Several maps kept as the rows of one weight.

    Attributes:
        path: where the weight is.
        parts: which maps, in order: "query", "key", "value"; or "gate", "up".
        layout: "stacked": all rows of the first part, then all of the next. "by_unit": the rows of the first KV
            group (or channel) of every part, then those of the next group.
    """

    path: str
    parts: tuple[str, ...]
    layout: Literal["stacked", "by_unit"]


@dataclass(frozen=True)
class Family:
    """The names of the parts of one architecture, as Transformers spells them.

    A layer need not have all that its table names: some variants of a family lack a norm.

    Attributes:
        name: the ``model_type`` of its configs.
        title: for people.
        trunk: everything but the head; called with tokens, it walks the layers.
        layers: the list of decoder layers.
        embeddings: token embeddings, and positions where they are learned.
        final_norm: the norm between the last layer and the head.
        head: the map from hidden states to logits.
        attention_inputs: maps whose rows go by KV group.
        attention_output: the map whose columns go by query head.
        ffn_inputs: maps whose rows go by FFN channel.
        ffn_output: the map whose columns go by FFN channel.
        attention_norms, ffn_norms: over the hidden states that enter a sub-layer; the first that a layer has feeds it.
            Like the next two they are owned by no unit: averaged over a window, a norm's own bias with it, or folded.
        norm_offset: what norms over hidden states add to their weight to scale by it, 1 in Gemma.
        attention_post_norm, ffn_post_norm: RMS norms over what leaves a sub-layer, before it is added to the hidden
            states.
        residual_multiplier: the layer's attribute that what leaves a sub-layer is multiplied by before it is added.
        head_norms: shared by all heads, with an entry a channel of a head: weighted by the ratio.
        norms_by_head: with an entry a channel, or a row, of every head: they go with their heads.
        transposed: the weights of a layer's maps are stored (in, out), as GPT-2's Conv1D does.
        tuple_output: a layer returns a tuple whose first entry is the hidden states.
    """

    name: str
    title: str
    trunk: str = "model"
    layers: str = "model.layers"
    embeddings: tuple[str, ...] = ("model.embed_tokens",)
    final_norm: str = "model.norm"
    head: str = "lm_head"
    attention_inputs: tuple[str | Fused, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    attention_output: str = "self_attn.o_proj"
    ffn_inputs: tuple[str | Fused, ...] = ("mlp.gate_proj", "mlp.up_proj")
    ffn_output: str = "mlp.down_proj"
    attention_norms: tuple[str, ...] = ("input_layernorm",)
    ffn_norms: tuple[str, ...] = ("post_attention_layernorm",)
    norm_offset: float = 0.0
    attention_post_norm: str | None = None
    ffn_post_norm: str | None = None
    residual_multiplier: str | None = None
    head_norms: tuple[str, ...] = ()
    norms_by_head: tuple[str, ...] = ()
    transposed: bool = False
    tuple_output: bool = False

    @property
    def attention_paths(self) -> tuple[str, ...]:
        """Where the maps of the attention are."""
        return (*map(path_of, self.attention_inputs), self.attention_output)

    @property
    def ffn_paths(self) -> tuple[str, ...]:
        """Where the maps of the FFN are."""
        return (*map(path_of, self.ffn_inputs), self.ffn_output)

    @property
    def averaged_norms(self) -> tuple[str, ...]:
        """Where the norms over hidden states and over what is added to them are."""
        after = (self.attention_post_norm, self.ffn_post_norm)
        before = dict.fromkeys((*self.attention_norms, *self.ffn_norms))  # one may feed both
        return (*before, *(path for path in after if path is not None))

    @property
    def norm_paths(self) -> tuple[str, ...]:
        """Where the norms of a layer are."""
        return (*self.averaged_norms, *self.head_norms, *self.norms_by_head)

    def post_norm(self, path: str) -> str | None:
        """The norm over what leaves the output map at ``path``, where there is one."""
        return self.ffn_post_norm if path == self.ffn_output else self.attention_post_norm

    def multiplier(self, layer: nn.Module) -> float:
        """What the output of a layer's sub-layers is multiplied by before it is added to the hidden states."""
        return float(getattr(layer, self.residual_multiplier)) if self.residual_multiplier else 1.0

    def matrix(self, layer: nn.Module, path: str) -> Tensor:
        """The weight of the map at ``path`` of a layer as (out, in), a view where it is stored the other way."""
        weight = weight_of(layer.get_submodule(path), "weight")
        assert weight is not None
        return weight.T if self.transposed else weight


def path_of(entry: str | Fused) -> str:
    """Where an entry of ``attention_inputs`` or ``ffn_inputs`` is kept."""
    return entry if isinstance(entry, str) else entry.path


def unit_rows(entry: str | Fused, rows: int, units: int, queries: int = 1) -> list[Tensor]:
    """Which rows of a weight belong to which unit, one table for each stretch of rows that goes by unit.

    Args:
        entry: the weight, by its path or as fused ones.
        rows: how many rows it has.
        units: how many KV groups or FFN channels a layer has.
        queries: how many query heads a KV group has.

    Returns:
        int64 tables, (units, rows of a unit) each, that cover the rows in order.
    """
    if isinstance(entry, str) or entry.layout == "by_unit":
        return [torch.arange(rows).view(units, -1)]
    weights = [queries if part == "query" else 1 for part in entry.parts]
    lengths = [rows * weight // sum(weights) for weight in weights]
    return [stretch.view(units, -1) for stretch in torch.arange(rows).split(lengths)]
