"""The engines: each loads a model by its own means and writes on greedily from each prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from come.errors import ComeError


@dataclass(frozen=True)
class Written:
    """What an engine made of a prompt: its tokens, and those that it wrote after it."""

    prompt: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class Engine:
    """How to have a model written on.

    Attributes:
        write: (place, prompts, new tokens) -> what it made of each prompt.
        package: what it needs, as pip names it, and ``module`` as Python does.
        note: what is particular about it, for the hint where it is not there.
    """

    write: Callable[[Path, Sequence[str], int], list[Written]]
    package: str
    module: str
    note: str = ""


def _transformers(place: Path, prompts: Sequence[str], count: int) -> list[Written]:
    """Plain Transformers: no code of ours touches the model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if place.suffix == ".gguf":
        raise ComeError("Transformers is tried on a folder.", "Name the folder, or take --engine llama.cpp.")
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype="auto").eval()
    written = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        end = {"eos_token_id": None, "pad_token_id": 0}  # as many tokens as asked for, whatever they are
        with torch.inference_mode():
            all_of_it = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, **end
            )
        written.append(Written(ids[0].tolist(), all_of_it[0, ids.shape[1] :].tolist()))
    return written


def _vllm(place: Path, prompts: Sequence[str], count: int) -> list[Written]:
    import torch
    from vllm import LLM, SamplingParams

    if not torch.cuda.is_available():
        raise ComeError("vLLM is tried on a CUDA device, and there is none.", "Take --engine transformers here.")
    engine = LLM(str(place), enforce_eager=True, gpu_memory_utilization=0.5)
    greedy = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
    found = engine.generate(list(prompts), greedy)
    return [Written(list(each.prompt_token_ids), list(each.outputs[0].token_ids)) for each in found]


def _llama_cpp(place: Path, prompts: Sequence[str], count: int) -> list[Written]:
    """llama.cpp, of a .gguf file; of a folder one is made first, in the float32 that both then compute in."""
    from llama_cpp import Llama

    from come.export.gguf_write import write_gguf

    with ExitStack() as held:
        if place.suffix != ".gguf":
            folder = held.enter_context(tempfile.TemporaryDirectory())
            place = write_gguf(place, Path(folder) / "model.gguf", "float32")
        engine = Llama(str(place), n_ctx=_CONTEXT, verbose=False, logits_all=False)
        written = []
        for prompt in prompts:
            ids, tokens = engine.tokenize(prompt.encode(), special=True), list[int]()
            engine.reset()
            for token in engine.generate(ids, temp=0.0, repeat_penalty=1.0):
                tokens.append(token)
                if len(tokens) == count:
                    break
            written.append(Written(ids, tokens))
        return written


_CONTEXT = 512  # tokens of a prompt and what follows it
ENGINES = {
    "transformers": Engine(_transformers, "transformers", "transformers"),
    "vllm": Engine(_vllm, "vllm", "vllm", "It needs a CUDA device."),
    "llama.cpp": Engine(_llama_cpp, "llama-cpp-python", "llama_cpp", "It is compiled as it is installed."),
}


def engine_named(name: str) -> Engine:
    """An engine that can be tried here.

    Raises:
        ComeError: there is none of that name, or it is not installed.
    """
    if name not in ENGINES:
        raise ComeError(f"There is no engine {name!r}.", f"Choose {', '.join(ENGINES)}.")
    engine = ENGINES[name]
    if find_spec(engine.module) is None:
        raise ComeError(f"{name} is not installed.", f"pip install {engine.package}. {engine.note}".strip())
    return engine
