"""A tokenizer as the metadata of a GGUF file: its tokens, their kinds, the merges, and how text is cut up first."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gguf import TokenType
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from come.errors import ComeError
from come.export.gguf_families import FOLDER_INSTEAD
from come.export.tokenizer_ends import adds_ends

_SPACE = "\u2581"  # how SentencePiece spells a space
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPLITS = ("qwen2", "tekken", "gpt-4o")  # those of GGUF_PRE_TOKENIZER_SPLITS that files in the wild go by
_FALCON = ["Punctuation", "ByteLevel", "Digits", "Split"]


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: "gpt2" (byte-level BPE) or "llama" (SentencePiece's BPE, with bytes for what it has no token for).
        pre: how text is cut before the merges, by the name that readers know it by.
        tokens, types, scores: one entry a row of the embeddings; what the tokenizer does not use is padding.
        merges: pairs, the first the most urgent.
        ids: those of the special tokens that there are: "bos", "eos", "unk", "pad".
        add_bos, add_eos: whether encoding adds them.
        prefix_space: whether a text is treated as if a space stood before it.
        chat_templates: in Jinja, by name; the one that is taken where none is named is "default".
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[tuple[str, str]]
    ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    prefix_space: bool
    chat_templates: dict[str, str]


def vocabulary_of(tokenizer: Any, rows: int) -> Vocabulary:
    """What to write of a Transformers tokenizer.

    Args:
        tokenizer: a fast one.
        rows: how many rows the model's embeddings have.

    Raises:
        ComeError: it is of a kind that GGUF has no name for, or has more tokens than there are rows.
    """
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    model = document["model"]
    pre_tokenizers = _flat(document.get("pre_tokenizer"))
    byte_level = any(part["type"] == "ByteLevel" for part in pre_tokenizers)
    if model.get("type") != "BPE" or not (byte_level or model.get("byte_fallback")):
        raise ComeError(
            f"The tokenizer is of the kind {model.get('type')}; a GGUF file holds byte-level or SentencePiece BPE.",
            FOLDER_INSTEAD,
        )
    merges = [_pair(merge) for merge in model["merges"]]
    tokens = {index: token for token, index in model["vocab"].items()}
    types = {index: TokenType.BYTE if _BYTE.fullmatch(token) else TokenType.NORMAL for index, token in tokens.items()}
    unknown = model.get("unk_token") or tokenizer.unk_token
    if not byte_level and unknown in model["vocab"]:  # one made of bytes knows everything
        types[model["vocab"][unknown]] = TokenType.UNKNOWN
    for added in document.get("added_tokens") or []:
        index, content = added["id"], added["content"]
        # Readers look for these in the raw text, where a space is a space.
        tokens[index] = content if added["special"] or byte_level else content.replace(_SPACE, " ")
        if types.get(index) != TokenType.UNKNOWN:
            types[index] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if max(tokens) >= rows:
        raise ComeError(
            f"The tokenizer has {max(tokens) + 1:,} tokens, the model embeddings for {rows:,}.", FOLDER_INSTEAD
        )
    rank = {first + second: -float(place) for place, (first, second) in reversed(list(enumerate(merges)))}
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    add_bos, add_eos = adds_ends(tokenizer)
    return Vocabulary(
        model="gpt2" if byte_level else "llama",
        pre=_name_of_split(document, pre_tokenizers) if byte_level else "default",
        tokens=[tokens.get(row, f"[PAD{row}]") for row in range(rows)],
        types=[int(types.get(row, TokenType.UNUSED)) for row in range(rows)],
        scores=[rank.get(tokens.get(row, ""), 0.0) for row in range(rows)],
        merges=merges,
        ids={name: int(index) for name, index in ids.items() if index is not None},
        add_bos=add_bos,
        add_eos=add_eos,
        prefix_space=not byte_level and _prefixes(document, pre_tokenizers),
        chat_templates=_named_templates(tokenizer.chat_template),
    )


def describe_to(writer: Any, vocabulary: Vocabulary) -> None:
    """Tell a ``GGUFWriter`` of a tokenizer."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_merges([f"{first} {second}" for first, second in vocabulary.merges])
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, index in vocabulary.ids.items():
        adders[name](index)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.prefix_space)
    if templates := vocabulary.chat_templates:
        writer.add_chat_template([{"name": name, "template": template} for name, template in templates.items()])


def _named_templates(told: str | dict[str, str] | None) -> dict[str, str]:
    """A tokenizer's chat templates, of which it has one, several with names, or none."""
    return {"default": told} if isinstance(told, str) else dict(told or {})


def _name_of_split(document: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    """The name by which readers know how a byte-level tokenizer cuts text.

    Raises:
        ComeError: they know it by none.
    """
    kinds = [part["type"] for part in parts]
    level = next(part for part in parts if part["type"] == "ByteLevel")
    if not level.get("add_prefix_space"):
        if kinds == ["ByteLevel"] and level.get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
            return "smollm"
        if kinds == _FALCON:
            return "falcon"
        if kinds == ["Split", "ByteLevel"] and not level.get("use_regex", True):
            regex = parts[0]["pattern"].get("Regex", "")
            if regex == GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]:  # readers of "llama-bpe" prefer whole tokens to merges
                return "llama-bpe" if document["model"].get("ignore_merges") else "dbrx"
            for name in _SPLITS:
                if regex == GGUF_PRE_TOKENIZER_SPLITS[name]:
                    return name
    raise ComeError("The tokenizer cuts text in a way that GGUF has no name for.", FOLDER_INSTEAD)


def _prefixes(document: dict[str, Any], parts: list[dict[str, Any]]) -> bool:
    """Whether a SentencePiece tokenizer puts a space before the text."""
    if any(part["type"] == "Prepend" for part in _flat(document.get("normalizer"))):
        return True
    return any(part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never" for part in parts)


def _flat(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The parts of a normalizer or pre-tokenizer, one after the other."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [inner for each in part.get("pretokenizers", part.get("normalizers", [])) for inner in _flat(each)]


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
