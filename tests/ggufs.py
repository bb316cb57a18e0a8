"""Tiny random models with tokenizers of the kinds that a GGUF file can hold."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tests.tiny import tiny_model

ROWS = 640  # of the embeddings: more than any of these tokenizers has tokens
TEXT = "The 12 quick foxes won't jump  over\n\nthe 3456 lazy dogs; élan, 東京! <|im_start|>user <b>x</b>"
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
# Families that Transformers reads GGUF files of, each with a tokenizer that goes with it.
READABLE = [
    ("llama", "gpt-2"),
    ("mistral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen2"),
    ("gemma2", "gemma"),
    ("phi3", "phi3"),
    ("gpt2", "gpt-2"),
    ("falcon:multi-query", "gpt-2"),
]
_LEARNT = [f"The {n} quick foxes jump over the {n * n} lazy dogs, and they won't stop." for n in range(80)]
# What readers take for granted of a family, where the tiny models of the other tests choose something else.
_AS_READ: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 128},
    "gemma2": {
        "query_pre_attn_scalar": 256,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
        "head_dim": 256,
    },
    "gpt2": {"n_inner": None, "max_position_embeddings": 1024},
    "falcon:multi-query": {"ffn_hidden_size": 128},
}


def gguf_folder(parent: Path, family: str = "llama", kind: str = "gpt-2", layers: int = 4, **changes: Any) -> Path:
    """A random model with a tokenizer of a kind, saved as a folder below ``parent``."""
    folder = parent / f"tiny-{family.replace(':', '-')}-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"vocab_size": ROWS, **_AS_READ.get(family, {}), **changes}
    tiny_model(family, layers, **settings).save_pretrained(folder)
    tokenizer_of(kind).save_pretrained(folder)
    return folder


@lru_cache(maxsize=8)
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer: "llama", "gemma" and "phi3" are SentencePiece's, all others byte-level with a split of that name."""
    return _sentencepiece(kind) if kind in ("llama", "gemma", "phi3") else _byte_level(kind)


def _byte_level(kind: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    if kind == "gpt-2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif kind == "smollm":
        digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    else:
        split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[kind]), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(_LEARNT, trainer)
    tokenizer.add_tokens(["<b>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


def _sentencepiece(kind: str) -> PreTrainedTokenizerFast:
    space = "\u2581"
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(_LEARNT, trainers.BpeTrainer(vocab_size=160, show_progress=False))
    pieces = [token for token, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"] if kind == "gemma" else ["<unk>", "<s>", "</s>"]
    special += ["<|endoftext|>"] if kind == "phi3" else []
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, space * 2]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    merges = [*((first, second) for first, second in _merges(trained)), (space, space)]
    if kind == "gemma":
        return GemmaTokenizer(vocab=vocabulary, merges=merges, chat_template=TEMPLATE)
    if kind == "llama":
        return LlamaTokenizer(vocab=vocabulary, merges=merges, chat_template=TEMPLATE)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
