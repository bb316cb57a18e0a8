"""The families that can be written as a GGUF file: what the file says of them, and in which layout it wants weights.

A family is here if the ``gguf`` package has its tensor names and Transformers reads it back: tests/export/test_gguf.py
tries each. A variant that a reader would take for another one is refused, because nobody would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError
from come.models import facts
from come.models.families import FAMILIES
from come.models.family import shape_of

FOLDER_INSTEAD = "Take it as a Transformers folder."

BYTES = {**facts.BYTES, "q8_0": 34 / 32}
"""What weights may be written in, and how many bytes one takes. q8_0: 32 whole numbers of 8 bits, a float16 scale."""


@dataclass(frozen=True)
class Layout:
    """How the models of a family lie in a GGUF file.

    Attributes:
        arch: what the file calls the architecture.
        carried: the entries of a config that readers learn from the file; all others they take from the defaults.
        interleaved: the rows of a query or key head come in pairs that turn together, as in Meta's own checkpoints.
        transposed: the maps that Transformers stores (in, out).
        norm_offset: what is added to the weights of norms.
        windows: the file tells of a sliding window, over every second layer.
    """

    arch: str
    carried: tuple[str, ...]
    interleaved: bool = False
    transposed: tuple[str, ...] = ()
    norm_offset: float = 0.0
    windows: bool = False


_COMMON = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    "llama": Layout("llama", (*_COMMON, "head_dim"), interleaved=True),
    "mistral": Layout("llama", (*_COMMON, "head_dim"), interleaved=True),
    "qwen2": Layout("qwen2", _COMMON),
    "qwen3": Layout("qwen3", _COMMON),
    "gemma2": Layout("gemma2", (*_COMMON, "head_dim"), norm_offset=1.0, windows=True),
    "phi3": Layout("phi3", _COMMON),
    "gpt2": Layout(
        "gpt2",
        ("vocab_size", "n_embd", "n_layer", "n_head", "layer_norm_epsilon"),
        transposed=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    ),
    "falcon": Layout(
        "falcon",
        ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    ),
}

# What changes nothing in what a loaded model computes, or is seen to elsewhere: windows, rotary positions, token ids,
# and whether the embeddings are the head, which they are where a file has none.
_NO_MATTER = {
    "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "id2label", "initializer_range", "label2id",
    "layer_types", "max_window_layers", "num_kv_heads", "original_max_position_embeddings", "output_attentions",
    "output_hidden_states", "pretraining_tp", "problem_type", "return_dict", "rope_parameters", "sliding_window",
    "tie_word_embeddings", "transformers_version", "use_bidirectional_attention", "use_cache", "use_sliding_window",
}  # fmt: skip
_NO_MATTER_ENDS = ("dropout", "pdrop", "_token_id")
_NO_MATTER_STARTS = ("summary_",)


def writable_families() -> str:
    """The families that can be written, for people."""
    return ", ".join(FAMILIES[name].title for name in LAYOUTS)


def why_not(model_type: str) -> str:
    """One sentence that says why models of a family cannot be written as GGUF; "" where they can."""
    if model_type in LAYOUTS:
        return ""
    title = FAMILIES[model_type].title if model_type in FAMILIES else model_type
    return f"{title} models cannot be written as GGUF here; {writable_families()} models can."


def layout_of(config: Any) -> Layout:
    """How a model of that Transformers config lies in a GGUF file.

    Raises:
        ComeError: its family cannot be written, or it has a setting that readers of the file would not learn of.
    """
    if reason := why_not(str(config.model_type)):
        raise ComeError(reason, FOLDER_INSTEAD)
    layout = LAYOUTS[config.model_type]
    told = config.to_dict()
    reread = type(config)(**{name: told[name] for name in layout.carried if name in told}).to_dict()
    for name, value in reread.items():
        matters = name not in _NO_MATTER and not name.startswith(_NO_MATTER_STARTS)
        if matters and not name.endswith(_NO_MATTER_ENDS) and told.get(name) != value:
            raise _untold(config, f"{name} = {told.get(name)}")
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind != "default" and not (kind == "llama3" and layout.interleaved):
        raise _untold(config, f"rotary positions of the kind {kind!r}")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _untold(config, f"partial_rotary_factor = {rope['partial_rotary_factor']}")
    return layout


def describe_to(writer: Any, config: Any, layout: Layout) -> None:
    """Tell a ``GGUFWriter`` the shape of a model."""
    shape, rope = shape_of(config), _rope(config)
    writer.add_context_length(context_length(config, layout))
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.channels)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if rms := getattr(config, "rms_norm_eps", None):
        writer.add_layer_norm_rms_eps(rms)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    if "rope_theta" in rope:
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(shape.head_dim)
    if layout.windows:
        writer.add_sliding_window(config.sliding_window)
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def context_length(config: Any, layout: Layout) -> int:
    """Up to how many tokens a reader of the file computes what the model does.

    Readers do not know which layers of a pruned model look through a sliding window; as far as the window reaches
    they need not.
    """
    longest = int(getattr(config, "max_position_embeddings", 0) or 0)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if (
        not window
        or not getattr(config, "use_sliding_window", True)
        or (kinds is not None and "sliding_attention" not in kinds)
    ):
        return longest
    told = layout.windows and all((kind == "sliding_attention") == (not n % 2) for n, kind in enumerate(kinds or []))
    return longest if told else min(longest, int(window))


def change_of(name: str, config: Any, layout: Layout) -> Callable[[Tensor], Tensor]:
    """What a weight, by its name in Transformers, goes through on its way into the file."""
    owner, _, kind = name.rpartition(".")
    shape = shape_of(config)
    if layout.interleaved and owner.endswith(("q_proj", "k_proj")):
        heads = shape.heads if owner.endswith("q_proj") else shape.kv_heads
        return lambda weight: _interleave(weight, heads)
    if kind == "weight" and owner.endswith(layout.transposed):
        return torch.t
    if layout.norm_offset and owner.endswith("norm"):
        return lambda weight: weight.float() + layout.norm_offset
    return lambda weight: weight


def rope_factors(config: Any) -> Tensor | None:
    """By what Llama 3's scaling divides each frequency of a head, float32 (head_dim / 2); None without it."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    head = shape_of(config).head_dim
    plain = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    factors: Tensor = plain / scaled.double()
    return factors.float()


def _interleave(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads, 2, half) in the order (heads, half, 2)."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _rope(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})


def _untold(config: Any, setting: str) -> ComeError:
    return ComeError(
        f"This {FAMILIES[config.model_type].title} model has {setting}, which readers of a GGUF file would not learn.",
        FOLDER_INSTEAD,
    )
