"""GGUF files that lie, by kind: a sound one of a few kilobytes, and what is changed of it before it is written."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

U8, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 4, 5, 6, 7, 8, 9, 10, 12
_PACKED = {U8: "B", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", F64: "d"}
WORDS = 300


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, what: Any) -> bytes:
    """A value as the file has it, its kind before it; lists are (kind of items, items)."""
    if kind == ARRAY:
        of, items = what
        return struct.pack("<IIQ", kind, of, len(items)) + b"".join(value(of, each)[4:] for each in items)
    return struct.pack("<I", kind) + (string(what) if kind == STRING else struct.pack(f"<{_PACKED[kind]}", what))


@dataclass
class Gguf:
    """What a file says."""

    magic: bytes = b"GGUF"
    version: int = 3
    entries: dict[str, bytes] = field(default_factory=dict)
    tensors: dict[str, tuple[tuple[int, ...], int, int | None]] = field(default_factory=dict)  # shape, kind, offset
    counts: tuple[int | None, int | None] = (None, None)  # of tensors and of entries, where they lie
    data: int | None = None  # bytes behind the header, where they are others than the tensors take
    order: str = "<"
    before_tensors: bytes = b""

    def written(self) -> bytes:
        body, offset = b"", 0
        for name, (shape, kind, at) in self.tensors.items():
            size = 4
            for length in shape:
                size *= length
            body += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", each) for each in shape)
            body += struct.pack("<IQ", kind, offset if at is None else at)
            offset += -(-min(size, 1 << 20) // 32) * 32 if at is None else 0
        counts = [
            told if told is not None else there
            for told, there in zip(self.counts, (len(self.tensors), len(self.entries)), strict=True)
        ]
        head = self.magic + struct.pack(f"{self.order}I", self.version) + struct.pack("<QQ", *counts)
        head += b"".join(string(name) + raw for name, raw in self.entries.items()) + self.before_tensors + body
        data = struct.pack("<97f", *(n / 97 for n in range(97))) * (offset // 388 + 1)
        return head + bytes(-len(head) % 32) + data[: offset if self.data is None else self.data]


def sound() -> Gguf:
    """A model of one layer."""
    file, of = Gguf(), (lambda *shape: (shape, 0, None))
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [f"w{n}" for n in range(WORDS - len(words))]
    file.entries = {
        "general.architecture": value(STRING, "llama"),
        "llama.block_count": value(U32, 1),
        "llama.context_length": value(U32, 64),
        "llama.embedding_length": value(U32, 8),
        "llama.feed_forward_length": value(U32, 16),
        "llama.attention.head_count": value(U32, 2),
        "llama.attention.head_count_kv": value(U32, 2),
        "llama.attention.layer_norm_rms_epsilon": value(F32, 1e-5),
        "llama.rope.freq_base": value(F32, 10000.0),
        "llama.vocab_size": value(U32, WORDS),
        "tokenizer.ggml.model": value(STRING, "llama"),
        "tokenizer.ggml.tokens": value(ARRAY, (STRING, words)),
        "tokenizer.ggml.scores": value(ARRAY, (F32, [0.0] * WORDS)),
        "tokenizer.ggml.token_type": value(ARRAY, (I32, [1] * WORDS)),
        "tokenizer.ggml.bos_token_id": value(U32, 1),
        "tokenizer.ggml.eos_token_id": value(U32, 2),
    }
    file.tensors = {
        "token_embd.weight": of(8, WORDS),
        "output.weight": of(8, WORDS),
        "output_norm.weight": of(8),
        **{f"blk.0.attn_{name}.weight": of(8, 8) for name in ("q", "k", "v", "output")},
        **{f"blk.0.{name}_norm.weight": of(8) for name in ("attn", "ffn")},
        **{f"blk.0.ffn_{name}.weight": of(8, 16) for name in ("gate", "up")},
        "blk.0.ffn_down.weight": of(16, 8),
    }
    return file


Change = Callable[[Gguf], object]


def says(**told: bytes) -> Change:
    """Other entries, "." spelled "__"; of the model's own where there is none."""

    def change(file: Gguf) -> None:
        for name, raw in told.items():
            key = name.replace("__", ".")
            file.entries[key if key.startswith(("general.", "tokenizer.")) else f"llama.{key}"] = raw

    return change


def without(*names: str) -> Change:
    return lambda file: [file.entries.pop(name) for name in names]


def tensor(name: str = "output_norm.weight", shape: Any = (8,), kind: int = 0, at: int | None = None) -> Change:
    return lambda file: file.tensors.update({name: (shape, kind, at)})


def put(**told: Any) -> Change:
    def change(file: Gguf) -> None:
        for name, each in told.items():
            setattr(file, name, each)

    return change


def _tensors(tensors: dict[str, Any]) -> Change:
    return put(tensors=tensors)


NAN, INF = float("nan"), float("inf")
CHANGES: dict[str, Change] = {
    "another magic": put(magic=b"GGUX"),
    "the magic backwards": put(magic=b"FUGG"),
    "version 0": put(version=0),
    "version 1": put(version=1),
    "version 4": put(version=4),
    "version 2^32 - 1": put(version=2**32 - 1),
    "the other byte order": put(order=">"),
    "2^60 entries": put(counts=(None, 2**60)),
    "2^64 - 1 entries": put(counts=(None, 2**64 - 1)),
    "an entry more": put(counts=(None, 17)),
    "2^60 tensors": put(counts=(2**60, None)),
    "a tensor more": put(counts=(13, None)),
    "no tensors": lambda file: file.tensors.clear(),
    "no tensors, and billions told": lambda file: (
        file.tensors.clear(),
        says(block_count=value(U32, 32), embedding_length=value(U32, 4096))(file),
    ),
    "no entries": lambda file: file.entries.clear(),
    "no architecture": without("general.architecture"),
    "an architecture that is a number": says(general__architecture=value(U32, 5)),
    "an architecture of a megabyte": says(general__architecture=value(STRING, "x" * 2**20)),
    "an unknown architecture": says(general__architecture=value(STRING, "nonsense")),
    "an architecture that is a path": says(general__architecture=value(STRING, "../../llama")),
    "a NUL in the architecture": says(general__architecture=value(STRING, "llama\0")),
    "an architecture that is no text": says(general__architecture=value(STRING, b"\xff\xfe")),
    "a text of 2^63": says(general__name=struct.pack("<IQ", STRING, 2**63)),
    "a text of 2^64 - 1": says(general__name=struct.pack("<IQ", STRING, 2**64 - 1)),
    "a text of the whole file": says(general__name=struct.pack("<IQ", STRING, 4000)),
    "a key of 2^60": put(before_tensors=struct.pack("<Q", 2**60), counts=(None, 17)),
    "an unknown kind of value": says(odd=struct.pack("<II", 99, 0)),
    "a list of 2^60 numbers": says(odd=struct.pack("<IIQ", ARRAY, U32, 2**60)),
    "a list of 2^60 texts": says(odd=struct.pack("<IIQ", ARRAY, STRING, 2**60)),
    "a list of 2^63 bytes": says(odd=struct.pack("<IIQ", ARRAY, U8, 2**63)),
    "a list of lists": says(odd=struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", U32, 0)),
    "lists a thousand deep": says(odd=struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 1000),
    "a list of an unknown kind": says(odd=struct.pack("<IIQ", ARRAY, 77, 2)),
    "words of 2^60": says(tokenizer__ggml__tokens=struct.pack("<IIQ", ARRAY, STRING, 2**60)),
    "a word of 2^63": says(tokenizer__ggml__tokens=struct.pack("<IIQQ", ARRAY, STRING, 1, 2**63)),
    "words that are numbers": says(tokenizer__ggml__tokens=value(ARRAY, (I32, [1] * WORDS))),
    "words that are one text": says(tokenizer__ggml__tokens=value(STRING, "abc")),
    "no words": without("tokenizer.ggml.tokens"),
    "fewer scores than words": says(tokenizer__ggml__scores=value(ARRAY, (F32, [0.0] * 3))),
    "scores that are texts": says(tokenizer__ggml__scores=value(ARRAY, (STRING, ["x"] * WORDS))),
    "kinds of words that are floats": says(tokenizer__ggml__token_type=value(ARRAY, (F32, [1.0] * WORDS))),
    "merges that are numbers": says(tokenizer__ggml__merges=value(ARRAY, (U32, [1, 2]))),
    "a start beyond the words": says(tokenizer__ggml__bos_token_id=value(U32, 2**32 - 1)),
    "an end that is a float": says(tokenizer__ggml__eos_token_id=value(F32, NAN)),
    "an alignment of 0": says(general__alignment=value(U32, 0)),
    "an alignment of 2^31": says(general__alignment=value(U32, 2**31)),
    "an alignment of 24": says(general__alignment=value(U32, 24)),
    "an alignment that is a text": says(general__alignment=value(STRING, "32")),
    "a billion layers": says(block_count=value(U32, 10**9)),
    "10^5 layers": says(block_count=value(U32, 10**5)),
    "2^63 layers": says(block_count=value(U64, 2**63)),
    "no layers": says(block_count=value(U32, 0)),
    "-1 layers": says(block_count=value(I32, -1)),
    "layers that are a float": says(block_count=value(F32, 1.0)),
    "layers that are a text": says(block_count=value(STRING, "1")),
    "layers that are true": says(block_count=value(BOOL, True)),
    "no word on layers": without("llama.block_count"),
    "layers that are not there": says(block_count=value(U32, 40)),
    "no channels": says(embedding_length=value(U32, 0)),
    "-8 channels": says(embedding_length=value(I32, -8)),
    "2^31 channels": says(embedding_length=value(U32, 2**31)),
    "no word on channels": without("llama.embedding_length"),
    "other channels than there are": says(embedding_length=value(U32, 4096)),
    "no heads": says(attention__head_count=value(U32, 0)),
    "heads that do not divide": says(attention__head_count=value(U32, 3)),
    "2^31 heads": says(attention__head_count=value(U32, 2**31)),
    "no word on heads": without("llama.attention.head_count"),
    "no groups": says(attention__head_count_kv=value(U32, 0)),
    "groups in lists": says(attention__head_count_kv=value(ARRAY, (U32, [2, 2, 2]))),
    "2^31 channels of a head": says(rope__dimension_count=value(U32, 2**31)),
    "2^32 - 1 channels of layers": says(feed_forward_length=value(U32, 2**32 - 1)),
    "2^31 words told": says(vocab_size=value(U32, 2**31)),
    "more words told than there are": says(vocab_size=value(U32, 10**6)),
    "positions of NaN": says(rope__freq_base=value(F32, NAN)),
    "positions without end": says(rope__freq_base=value(F64, INF)),
    "norms of NaN": says(attention__layer_norm_rms_epsilon=value(F32, NAN)),
    "a context of 2^63": says(context_length=value(U64, 2**63)),
    "dimensions of 2^63": tensor(shape=(2**63,), at=0),
    "dimensions that wrap": tensor(shape=(2**33, 2**33), at=0),
    "a dimension of 0": tensor(shape=(0,), at=0),
    "2^32 - 1 dimensions": put(counts=(12, None), before_tensors=string("x") + struct.pack("<I", 2**32 - 1)),
    "five dimensions": tensor(shape=(1, 1, 1, 1, 8)),
    "beyond the file": tensor(shape=(10**9,), at=0),
    "an offset beyond the file": tensor(at=2**40),
    "an offset of 2^64 - 32": tensor(at=2**64 - 32),
    "an offset that is not aligned": tensor(at=7),
    "tensors in each other": tensor("blk.0.attn_q.weight", (8, 8), at=0),
    "an unknown kind of numbers": tensor(kind=9999),
    "a kind that was taken away": tensor(kind=4),
    "blocks that are cut": tensor(kind=2),
    "a tensor without a name": tensor("", (8,)),
    "a name that is no text": lambda file: file.tensors.update({"\0": ((8,), 0, None)}),
    "nothing behind the header": put(data=0),
    "half of the tensors": put(data=10_000),
    "another shape of embeddings": tensor("token_embd.weight", (WORDS, 8)),
    "a model without embeddings": lambda file: file.tensors.pop("token_embd.weight"),
}


def written(parent: Path, change: Change) -> Path:
    file, path = sound(), parent / "model.gguf"
    change(file)
    path.write_bytes(file.written())
    return path


def the_49_bytes(parent: Path) -> Path:
    """A header with one entry, whose text is said to be of many gigabytes."""
    path = parent / "tiny.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + string("general.x")[:13] + struct.pack("<IQ", 8, 2**40))
    return path


def cut(parent: Path, size: int) -> Path:
    path = written(parent, lambda _: None)
    os.truncate(path, size)
    return path
