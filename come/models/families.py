"""Where each family of models keeps the parts of a decoder layer: one table a family, no code.

A path is dotted and starts at the decoder layer, or, for the first group, at the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError


@dataclass(frozen=True)
class Family:
    """The names of the parts of one architecture, as Transformers spells them."""

    name: str
    title: str
    # In the model.
    trunk: str = "model"
    layers: str = "model.layers"
    embeddings: tuple[str, ...] = ("model.embed_tokens",)
    final_norm: str = "model.norm"
    head: str = "lm_head"
    # In a layer: maps whose rows go by KV group and whose columns go by query head ...
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    attention_output: str = "self_attn.o_proj"
    # ... maps whose rows, and the one whose columns, go by FFN channel ...
    ffn_inputs: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    ffn_output: str = "mlp.down_proj"
    # ... and what no unit owns: averaged over the window, or weighted by the ratio.
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "Llama"),
        Family("mistral", "Mistral"),
        Family("qwen2", "Qwen2"),
        Family("qwen3", "Qwen3", head_norms=("self_attn.q_norm", "self_attn.k_norm")),
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
            norms=("self_attn_layer_norm", "final_layer_norm"),
        ),
    )
}


def family_of(config: object) -> Family:
    """The family that a Transformers config belongs to.

    Raises:
        ComeError: the architecture is not supported; the sentence names those that are.
    """
    model_type = str(getattr(config, "model_type", "") or "unknown")
    if getattr(config, "is_encoder_decoder", False):
        raise ComeError(
            f"{model_type} is an encoder-decoder model; CoMe merges decoder layers only.", _known_families()
        )
    if any(getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")):
        raise ComeError(
            f"{model_type} is a mixture-of-experts model, whose experts CoMe cannot merge.", _known_families()
        )
    if model_type not in FAMILIES:
        raise ComeError(f"The architecture {model_type!r} is not supported yet.", _known_families())
    if model_type == "opt" and getattr(config, "word_embed_proj_dim", None) != getattr(config, "hidden_size", None):
        raise ComeError(
            "This OPT model projects its embeddings (project_out), as opt-350m does; that variant is not supported.",
            "Any other OPT size works.",
        )
    return FAMILIES[model_type]


def _known_families() -> str:
    titles = ", ".join(family.title for family in FAMILIES.values())
    return f"Choose a model of one of these families: {titles}."
