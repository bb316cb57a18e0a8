"""Files of models that lie, by kind: each entry makes one of a sound folder, or writes one, and names it."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = 100_000
Damage = Callable[[Path], Path]
"""Does it to a sound model's folder, and returns what is to be named as the model."""


def config(**values: Any) -> Damage:
    """Other entries of config.json, written as they are."""

    def damage(folder: Path) -> Path:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")
        return folder

    return damage


def short(values: dict[str, Any]) -> str:
    (name, value), *_ = values.items()
    return f"{name}-{type(value).__name__}-{str(value)[:24]}".replace("/", "_").encode("ascii", "replace").decode()


_REFUSED: dict[str, list[Any]] = {
    "num_hidden_layers": [10**5, 10**7, 10**9, 10**30, -1, 0, True, 2.5, 1e9, "6", "1000000", [6], [6] * 50_000, {}],
    "hidden_size": [10**9, 0, -32, True, "32", 1e9, float("nan"), {"a": 1}],
    "vocab_size": [10**9, 10**14, 0, -1, "128", False, 1e300],
    "intermediate_size": [10**12, 0, -48, "48", 10**6],
    "num_attention_heads": [10**9, 0, -8, 7, "8", True],
    "num_key_value_heads": [10**9, 0, -4, 3, "4"],
    "head_dim": [10**9, 0, -4, "4"],
    "max_position_embeddings": [10**18, -1, 0, "256"],
    "num_labels": [10**9, "x"],
    "rms_norm_eps": [float("nan"), float("inf"), float("-inf")],
    "rope_parameters": [
        [], "x", 5, {"rope_type": "bogus"}, {"rope_type": ["default"]}, {"rope_type": {}},
        {"rope_type": "default", "rope_theta": float("nan")}, {"rope_type": "default", "rope_theta": float("inf")},
    ],
    "hidden_act": ["nonsense", 5, [], {}, "x" * 10**6, "silu\0", "../silu"],
    "layer_types": ["x", ["bogus"] * 6, [5] * 6, [[]] * 6, {}, ["full_attention"] * 150_000],
    "architectures": ["x", 5, [5], [[]], {"a": 1}],
    "model_type": [[], {}, 5, True, "bogus", "llama\0", "llama\ud800", "../../llama"],
    "text_config": [[], 5, "x"],
    "quantization_config": [
        [], "x", 5, {"quant_method": "bogus"}, {"quant_method": "gptq", "bits": 10**9}, {"quant_method": ["fp8"]},
        {"load_in_4bit": True, "load_in_8bit": True},
    ],
    "pad_token_id": [10**9, 10**30],
    "auto_map": [5, "x", []],
    "configuration_files": [["../config.5.0.0.json"], 5],
    "transformers_weights": ["../../x.bin"],
    "is_encoder_decoder": [True],
}  # fmt: skip
_AS_IT_MAY_BE: dict[str, list[Any]] = {
    "dtype": ["float9", 5, [], {"a": 1}, "float16"],
    "torch_dtype": ["int8", "../x"],
    "eos_token_id": ["x", {"a": 1}, -5, 10**9],
    "tie_word_embeddings": ["x", 5, None],
    "attention_bias": ["x", []],
    "id2label": [{"a": 1}, {"0": None}],
    "use_cache": ["x"],
    "transformers_version": [5, [], "x"],
    "rope_parameters": [
        {"rope_type": "default", "rope_theta": "x"}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": -1},
        {"rope_type": "dynamic", "factor": 0}, {"rope_type": "default", "rope_theta": 0}, {},
    ],
    "attn_implementation": [5, [], "x/y"],
    "quantization_config": [{"quant_method": "fp8", "weight_block_size": [0, 0]}, {"quant_method": "fp8"}],
    "rms_norm_eps": ["x", -1.0],
    "sliding_window": [-5, 10**9, "x"],
    "initializer_range": [-1.0, "x"],
    "auto_map": [{"AutoConfig": 5}, {"AutoTokenizer": [None]}],
    "tokenizer_class": [5, [], "Nonsense"],
}  # fmt: skip
CONFIGS = {short({name: value}): config(**{name: value}) for name, several in _REFUSED.items() for value in several}
ODD_CONFIGS = {
    short({name: value}): config(**{name: value}) for name, several in _AS_IT_MAY_BE.items() for value in several
}


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def giant(size: int, begins: bytes = b"") -> Callable[[Path], object]:
    """A file of a size that takes no room on disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(begins)
            file.truncate(size)

    return write


def link(target: str) -> Callable[[Path], object]:
    return lambda path: os.symlink(target, path)


def many(opening: bytes, entry: bytes, closing: bytes, count: int) -> Callable[[Path], object]:
    return text(opening + b",".join([entry] * count) + closing)


# What may stand in the place of a small file; it is refused whichever that is.
IN_PLACE: dict[str, Callable[[Path], object]] = {
    "brackets": text(b"[" * DEEP),
    "closed brackets": text(b"[" * DEEP + b"]" * DEEP),
    "objects": text(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "an endless string": text(b'{"a": "' + b'\\"' * 400_000),
    "a long number": text(b'{"a": ' + b"9" * 5000 + b"}"),
    "500 MB": giant(500_000_000, b"{"),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: os.symlink(path.name, path),
    "an endless device": link("/dev/zero"),
    "the terminal": link("/dev/tty"),
}
# What is refused, or left aside where nothing is read of it.
ODD_IN_PLACE: dict[str, Callable[[Path], object]] = {
    "nothing": text(b""),
    "half": text(b'{"a": [1, 2'),
    "null": text(b"null"),
    "a number": text(b"5"),
    "a string": text(b'"x"'),
    "a list": text(b"[]"),
    "an object": text(b"{}"),
    "noise": text(bytes(range(256)) * 40),
    "NULs": text(bytes(4096)),
    "UTF-16": text('{"a": 1}'.encode("utf-16")),
    "a mark before it": text(b"\xef\xbb\xbf{}"),
    "a NUL in it": text(b'{"a": "\\u0000", "model_type": "llama"}'),
    "half of a character": text(b'{"a": "\\ud800", "model_type": "llama"}'),
    "a field twice": text(b'{"model_type": "llama", "model_type": "gpt2"}'),
    "no number": text(b'{"a": NaN, "b": Infinity, "c": 1e999}'),
    "many lists": many(b"[", b"[]", b"]", 700_000),
    "many objects": many(b'{"a": [', b"{}", b"]}", 700_000),
    "a link to nothing": link("nowhere"),
}
SMALL_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
OTHER_SMALL_FILES = (
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "chat_template.jinja",
)


def in_place_of(name: str, write: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> Path:
        (folder / name).unlink(missing_ok=True)
        if name == "model.safetensors.index.json":
            (folder / "model.safetensors").unlink()
        write(folder / name)
        return folder

    return damage


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Another document in the place of a sound one."""

    def damage(folder: Path) -> Path:
        told = json.loads((folder / name).read_text("utf-8")) if (folder / name).exists() else {}
        change(told)
        (folder / name).write_text(json.dumps(told), "utf-8")
        return folder

    return damage


def _model(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda told: told["model"].update(values)


TOKENIZERS = {
    "ids beyond the embeddings": changed("tokenizer.json", lambda told: told["model"]["vocab"].update(far=10**6)),
    "ids below none": changed("tokenizer.json", lambda told: told["model"]["vocab"].update(far=-1)),
    "ids too large for 32 bits": changed("tokenizer.json", lambda told: told["model"]["vocab"].update(far=2**40)),
    "a list of words": changed("tokenizer.json", _model(vocab=[1, 2])),
    "no words": changed("tokenizer.json", _model(vocab={})),
    "an unknown kind": changed("tokenizer.json", _model(type="Nonsense")),
    "merges of nothing": changed("tokenizer.json", _model(type="BPE", merges=[["zz", "yy"]])),
    "Unigram without an end": changed("tokenizer.json", _model(type="Unigram", vocab=[["a", 0.0]], unk_id=99)),
    "a damaged map of characters": changed(
        "tokenizer.json", lambda told: told.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "!!"})
    ),
    "a cut map of characters": changed(
        "tokenizer.json", lambda told: told.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    ),
    "a template without its token": changed(
        "tokenizer.json",
        lambda told: told.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<zz>", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        ),
    ),
    "a letter that becomes a flood": changed(
        "tokenizer.json",
        lambda told: told.update(normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100_000}),
    ),
    "a pattern that is none": changed(
        "tokenizer.json",
        lambda told: told.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": False}
        ),
    ),
    "other files of a folder above": changed(
        "tokenizer_config.json", lambda told: told.update(fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    ),
}
ODD_TOKENIZERS = {
    "a class that is none": changed("tokenizer_config.json", lambda told: told.update(tokenizer_class=5)),
    "an unknown class": changed("tokenizer_config.json", lambda told: told.update(tokenizer_class="os.system")),
    "a longest text of NaN": changed("tokenizer_config.json", lambda told: told.update(model_max_length=float("nan"))),
    "a longest text of -1": changed("tokenizer_config.json", lambda told: told.update(model_max_length=-1)),
    "a token that is a list": changed("tokenizer_config.json", lambda told: told.update(bos_token=["<s>"])),
    "a token that is an object": changed("tokenizer_config.json", lambda told: told.update(bos_token={"a": 1})),
    "added tokens of no kind": changed("tokenizer_config.json", lambda told: told.update(added_tokens_decoder=[1])),
    "added tokens far away": changed(
        "tokenizer_config.json", lambda told: told.update(added_tokens_decoder={"99999999999": {"content": "x"}})
    ),
    "a template that is a number": changed("tokenizer_config.json", lambda told: told.update(chat_template=5)),
    "templates without names": changed("tokenizer_config.json", lambda told: told.update(chat_template=[{"a": 1}])),
    "an empty token": changed("tokenizer_config.json", lambda told: told.update(bos_token="")),
    "a million special tokens": changed(
        "tokenizer_config.json", lambda told: told.update(extra_special_tokens=[f"<{n}>" for n in range(2000)])
    ),
}


def safetensors(header: Any, data: bytes = bytes(16), length: int | None = None) -> Damage:
    """A file of weights with a header of one's own, which may say another length."""

    def damage(folder: Path) -> Path:
        told = header if isinstance(header, bytes) else json.dumps(header).encode()
        said = struct.pack("<Q", len(told) if length is None else length)
        (folder / "model.safetensors").write_bytes(said + told + data)
        return folder

    return damage


def _weight(dtype: Any = "F32", shape: Any = (4,), at: Any = (0, 16), **more: Any) -> dict[str, Any]:
    return {"lm_head.weight": {"dtype": dtype, "shape": shape, "data_offsets": at, **more}}


def _cut(size: int) -> Damage:
    def damage(folder: Path) -> Path:
        os.truncate(folder / "model.safetensors", size)
        return folder

    return damage


WEIGHTS = {
    "a header of 2^63": safetensors(_weight(), length=2**63),
    "a header of 2^64 - 1": safetensors(_weight(), length=2**64 - 1),
    "a header beyond the file": safetensors(_weight(), length=10**6),
    "a header of nothing": safetensors(_weight(), length=0),
    "an empty file": safetensors(b"", b"", 0),
    "no header": _cut(8),
    "half of a length": _cut(3),
    "no bytes": _cut(0),
    "half of a header": _cut(200),
    "all but a byte": lambda folder: _cut((folder / "model.safetensors").stat().st_size - 1)(folder),
    "a list": safetensors([]),
    "a string": safetensors("x"),
    "no JSON": safetensors(b"{{{{"),
    "brackets": safetensors(b"[" * DEEP),
    "half of a character": safetensors(b'{"\\ud800": 1}'),
    "offsets beyond the file": safetensors(_weight(at=(0, 10**9), shape=(10**9 // 4,))),
    "offsets backwards": safetensors(_weight(at=(16, 0))),
    "negative offsets": safetensors(_weight(at=(-16, 0))),
    "offsets of 2^63": safetensors(_weight(at=(0, 2**63), shape=(2**61,))),
    "offsets that are no numbers": safetensors(_weight(at=("0", "16"))),
    "one offset": safetensors(_weight(at=(0,))),
    "overlapping": safetensors({**_weight(), "model.norm.weight": _weight()["lm_head.weight"]}),
    "a hole": safetensors(_weight(at=(16, 32)), bytes(32)),
    "more behind": safetensors(_weight(), bytes(64)),
    "an unknown dtype": safetensors(_weight("F99")),
    "a dtype that is no name": safetensors(_weight(5)),
    "int8": safetensors(_weight("I8", (16,))),
    "float8": safetensors(_weight("F8_E4M3", (16,))),
    "float8 of exponents": safetensors(_weight("F8_E8M0", (16,))),
    "float4": safetensors(_weight("F4", (32,))),
    "complex": safetensors(_weight("C64", (2,))),
    "truth values": safetensors(_weight("BOOL", (16,))),
    "a negative shape": safetensors(_weight(shape=(-4,))),
    "two negative shapes": safetensors(_weight(shape=(-2, -2))),
    "a shape that overflows": safetensors(_weight(shape=(2**33, 2**33))),
    "a shape that wraps": safetensors(_weight(shape=(2**63, 2))),
    "an empty shape of giants": safetensors(_weight(shape=(0, 2**62), at=(0, 0)), b""),
    "a thousand dimensions": safetensors(_weight(shape=[1] * 1000, at=(0, 4)), bytes(4)),
    "a shape of fractions": safetensors(_weight(shape=(2.0, 2.0))),
    "a shape that is no list": safetensors(_weight(shape="4")),
    "a name twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    ),
    "a NUL in a name": safetensors(b'{"a\\u0000":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "a weight that is a number": safetensors({"a": 5}),
    "metadata alone": safetensors({"__metadata__": {"format": "pt"}}, b""),
    "many weights": safetensors(
        {f"w{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(150_000)}, b""
    ),
    "a header of 40 MB": safetensors(b'{"a": "' + b"x" * 40_000_000 + b'"}'),
    "a pipe": in_place_of("model.safetensors", lambda path: os.mkfifo(path)),
    "a folder": in_place_of("model.safetensors", lambda path: path.mkdir()),
    "an endless device": in_place_of("model.safetensors", link("/dev/zero")),
    "a link to itself": in_place_of("model.safetensors", lambda path: os.symlink(path.name, path)),
}


def index(document: Any) -> Damage:
    return in_place_of("model.safetensors.index.json", text(json.dumps(document).encode()))


INDEXES = {
    "outside": index({"weight_map": {"a": "../../etc/passwd"}}),
    "absolute": index({"weight_map": {"a": "/dev/zero"}}),
    "a file that is not there": index({"weight_map": {"a": "x.safetensors"}}),
    "a NUL": index({"weight_map": {"a": "x\0.safetensors"}}),
    "a list": index({"weight_map": ["a"]}),
    "numbers": index({"weight_map": {"a": 5}}),
    "lists": index({"weight_map": {"a": ["x.safetensors"]}}),
    "no map": index({"metadata": {"total_size": 10**30}}),
    "an empty map": index({"weight_map": {}}),
    "itself": index({"weight_map": {"a": "model.safetensors.index.json"}}),
    "a name of a megabyte": index({"weight_map": {"a": "x" * 10**6 + ".safetensors"}}),
    "many": index({"weight_map": {f"w{n}": "x.safetensors" for n in range(450_000)}}),
}
NOT_OF_JSON = ("500 MB", "a pipe", "a folder", "a link to itself", "an endless device", "the terminal")
