"""The families of models that are supported: one table each, no code. docs/adding-a-family.md tells how to add one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from come.errors import ComeError
from come.models.family import Family, Fused
from come.models.text_tower import TOWERS

_GATE_UP = Fused("mlp.gate_up_proj", ("gate", "up"), "stacked")

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "Llama"),
        Family("mistral", "Mistral"),
        Family("qwen2", "Qwen2"),
        Family("qwen3", "Qwen3", head_norms=("self_attn.q_norm", "self_attn.k_norm")),
        Family(
            "gemma2",
            "Gemma 2",
            ffn_norms=("pre_feedforward_layernorm",),
            norm_offset=1.0,
            attention_post_norm="post_attention_layernorm",
            ffn_post_norm="post_feedforward_layernorm",
        ),
        Family(
            "gemma3_text",
            "Gemma 3 (text)",
            ffn_norms=("pre_feedforward_layernorm",),
            norm_offset=1.0,
            attention_post_norm="post_attention_layernorm",
            ffn_post_norm="post_feedforward_layernorm",
            head_norms=("self_attn.q_norm", "self_attn.k_norm"),
        ),
        Family(
            "phi3",
            "Phi-3",
            attention_inputs=(Fused("self_attn.qkv_proj", ("query", "key", "value"), "stacked"),),
            ffn_inputs=(_GATE_UP,),
        ),
        Family("smollm3", "SmolLM3"),
        Family("granite", "Granite", residual_multiplier="residual_multiplier"),
        Family(
            "olmo2",
            "OLMo 2",
            attention_norms=(),
            ffn_norms=(),
            attention_post_norm="post_attention_layernorm",
            ffn_post_norm="post_feedforward_layernorm",
            norms_by_head=("self_attn.q_norm", "self_attn.k_norm"),
        ),
        Family(
            "glm4",
            "GLM-4",
            ffn_inputs=(_GATE_UP,),
            attention_post_norm="post_self_attn_layernorm",
            ffn_post_norm="post_mlp_layernorm",
        ),
        Family(
            "cohere",
            "Cohere Command R",
            ffn_norms=("input_layernorm",),  # attention and FFN both read it: they lie side by side
            norms_by_head=("self_attn.q_norm", "self_attn.k_norm"),
        ),
        Family(
            "gpt_neox",
            "GPT-NeoX/Pythia",
            trunk="gpt_neox",
            layers="gpt_neox.layers",
            embeddings=("gpt_neox.embed_in",),
            final_norm="gpt_neox.final_layer_norm",
            attention_inputs=(Fused("attention.query_key_value", ("query", "key", "value"), "by_unit"),),
            attention_output="attention.dense",
            ffn_inputs=("mlp.dense_h_to_4h",),
            ffn_output="mlp.dense_4h_to_h",
        ),
        Family(
            "gpt2",
            "GPT-2",
            trunk="transformer",
            layers="transformer.h",
            embeddings=("transformer.wte", "transformer.wpe"),
            final_norm="transformer.ln_f",
            attention_inputs=(Fused("attn.c_attn", ("query", "key", "value"), "stacked"),),
            attention_output="attn.c_proj",
            ffn_inputs=("mlp.c_fc",),
            ffn_output="mlp.c_proj",
            attention_norms=("ln_1",),
            ffn_norms=("ln_2",),
            transposed=True,
        ),
        Family(
            "falcon",
            "Falcon",
            trunk="transformer",
            layers="transformer.h",
            embeddings=("transformer.word_embeddings",),
            final_norm="transformer.ln_f",
            # Its three layouts are one: a row block a KV group. Falcon-7B has one group, Falcon-40B several, the
            # oldest one a head.
            attention_inputs=(Fused("self_attention.query_key_value", ("query", "key", "value"), "by_unit"),),
            attention_output="self_attention.dense",
            ffn_inputs=("mlp.dense_h_to_4h",),
            ffn_output="mlp.dense_4h_to_h",
            attention_norms=("ln_attn", "input_layernorm"),
            ffn_norms=("ln_mlp", "post_attention_layernorm", "input_layernorm"),
            tuple_output=True,
        ),
        Family(
            "opt",
            "OPT",
            trunk="model.decoder",
            layers="model.decoder.layers",
            embeddings=("model.decoder.embed_tokens", "model.decoder.embed_positions"),
            final_norm="model.decoder.final_layer_norm",
            attention_output="self_attn.out_proj",
            ffn_inputs=("fc1",),
            ffn_output="fc2",
            attention_norms=("self_attn_layer_norm",),
            ffn_norms=("final_layer_norm",),
        ),
    )
}

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_RECURRENT = ("mamba_d_state", "ssm_state_size", "state_size", "conv_L_cache")  # where no kind of layer tells
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def family_of(config: Any) -> Family:
    """The family that a Transformers config belongs to.

    Raises:
        ComeError: the architecture is not supported; the sentence names those that are. Or this variant of a
            supported one cannot be merged exactly.
    """
    model_type = str(getattr(config, "model_type", "") or "unknown")
    if getattr(config, "is_encoder_decoder", False):
        raise ComeError(
            f"{model_type} is an encoder-decoder model; CoMe merges decoder layers only.", _known_families()
        )
    parts = [config, *(part for name in ("text_config", "llm_config") if (part := getattr(config, name, None)))]
    if lacking := _lacking(model_type, parts):
        raise ComeError(lacking, _known_families())
    if model_type not in FAMILIES and len(parts) > 1:
        text_type = str(getattr(parts[1], "model_type", "") or "")
        raise ComeError(
            f"{model_type} is a multimodal model, and CoMe does not know how to take out its text part ({text_type}); "
            f"it does of {', '.join(TOWERS)}.",
            f"Choose a text-only model of its family ({text_type})." if text_type in FAMILIES else _known_families(),
        )
    if model_type not in FAMILIES:
        raise ComeError(f"The architecture {model_type!r} is not supported yet.", _known_families())
    if variant := _inexact_variant(model_type, config):
        raise ComeError(*variant)
    return FAMILIES[model_type]


def _lacking(model_type: str, parts: Sequence[Any]) -> str:
    """Which rules merging layers of a model would take that there are none of yet; "" where nothing is lacking."""
    kinds = {kind for part in parts for kind in getattr(part, "layer_types", None) or () if isinstance(kind, str)}
    others = ", ".join(sorted(kinds - _ATTENTION))
    if not others and any(getattr(part, name, None) for part in parts for name in _RECURRENT):
        others = "recurrent"
    experts = any(getattr(part, name, None) for part in parts for name in _EXPERTS)
    # Of layers CoMe joins KV groups and FFN channels; what else they have takes a rule of its own.
    pairing = "for pairing the experts of two layers and their routers"
    joining = f"for choosing and joining the channels of its {others} layers"
    if experts and others:
        return f"{model_type} is a mixture-of-experts and a hybrid model: CoMe has no rule {pairing}, nor {joining}."
    if experts:
        return f"{model_type} is a mixture-of-experts model: CoMe has no rule {pairing}."
    return f"{model_type} is a hybrid model: CoMe has no rule {joining}." if others else ""


def _inexact_variant(model_type: str, config: Any) -> tuple[str, str] | None:
    """Why a variant of a supported family cannot be merged exactly, and what to take instead; None if it can."""

    def has(name: str) -> bool:
        return bool(getattr(config, name, None))

    if model_type == "opt" and getattr(config, "word_embed_proj_dim", None) != getattr(config, "hidden_size", None):
        return (
            "This OPT model projects its embeddings (project_out), as opt-350m does; that variant is not supported.",
            "Any other OPT size works.",
        )
    if model_type == "opt" and not has("do_layer_norm_before"):
        return (
            "This OPT model norms its hidden states after it has added to them (do_layer_norm_before = false), as "
            "opt-350m does; that variant is not supported.",
            "Any other OPT size works.",
        )
    if model_type == "gpt2" and has("scale_attn_by_inverse_layer_idx"):
        return (
            "This GPT-2 model scales its attention by the layer's number (scale_attn_by_inverse_layer_idx), so that "
            "every merge or removal would change all layers above it.",
            "Choose a GPT-2 model without it; OpenAI's four sizes have none.",
        )
    if model_type == "gpt2" and has("add_cross_attention"):
        return (
            "This GPT-2 model has cross-attention, as the decoder of an encoder-decoder model.",
            "Choose a GPT-2 model that stands alone.",
        )
    if model_type == "falcon" and has("alibi"):
        return (
            "This Falcon model uses ALiBi, which gives a head its bias by its place in the layer; merging moves heads.",
            "Choose a Falcon model with rotary positions, such as tiiuae/falcon-7b.",
        )
    if has("use_bidirectional_attention"):
        return (
            f"This {model_type} model attends in both directions: it makes embeddings and predicts no next token.",
            "Choose a causal language model.",
        )
    return None


def _known_families() -> str:
    titles = ", ".join(family.title for family in FAMILIES.values())
    return f"Choose a model of one of these families: {titles}."
