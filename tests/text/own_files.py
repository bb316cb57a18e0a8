"""Chats, tables and templates that tests of people's own texts write."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny import tiny_tokenizer

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"


# Like Mistral's: a system message, or two turns of one side, are refused.
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate.') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)


HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


BYE = [{"from": "human", "value": "bye"}, {"from": "gpt", "value": "so long"}]


def taught(template: str | dict[str, str] = CHATML) -> Any:
    tokenizer = copy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def jsonl(path: Path, *values: Any) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in values))
    return path


def parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path
