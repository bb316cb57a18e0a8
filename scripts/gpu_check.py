"""Is all of it right on this device, and near what the device can do? .venv/bin/python -m scripts.gpu_check

Six parts, in this order, within ten minutes on one card: tiny models of every family against the CPU; CoMe and its
rivals on the bundled model; and on a model of the size of LLaMA-2-7B with random weights the measuring pass, the
progressive loop, a step of recovery, and generation. Each part is written to docs/gpu-results.json when it is done, so
a check that is broken off keeps what it found. Prints a table; the exit status is 1 where something is out of bounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import come
from benchmarks.progressive import models_of, necessary
from benchmarks.timing import MODEL, TEXT, forward, in_turn, machine, markdown, ratio, seconds
from benchmarks.training import layerwise
from come.evaluate.speed import compare_speed
from come.measurement.calibrate import default_batch_size
from come.models import FAMILIES, Bundle
from come.plan.plan import Plan
from tests.tiny import CASES, tiny_bundle, tiny_tokenizer, tiny_tokens

OUT = Path("docs/gpu-results.json")
METHODS = ("come-joint", "come", "come-p", "shortgpt", "sleb")
# Times of what has to be done anyway, and perplexities of the same model on the CPU in float32.
MEASURING_BOUND, LOOP_BOUND = 1.10, 1.15
FLOAT32_BOUND, BFLOAT16_BOUND = 1e-4, 0.03

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What the parts that are timed are run on.

    Attributes:
        layers, hidden_size, intermediate_size, heads, vocabulary: of the model with random weights.
        dtype: of its weights.
        sequences, seq_len: calibration tokens.
        target: how many layers are left.
        rounds: of everything that is timed.
        bundled: how many layers the bundled model is pruned to; 0 leaves that part to a tiny model, to 4 of its 6.
        families: which tiny models.
    """

    layers: int = 32
    hidden_size: int = 4096
    intermediate_size: int = 11008
    heads: int = 32
    vocabulary: int = 32000
    dtype: torch.dtype = torch.bfloat16
    sequences: int = 16
    seq_len: int = 2048
    target: int = 24
    rounds: int = 3
    bundled: int = 24
    families: tuple[str, ...] = CASES


LARGE = Size()
SMALL = Size(6, 64, 172, 4, 128, torch.float32, 8, 512, 4, 1, 0, ("llama", "gpt2"))


def main(arguments: list[str] | None = None) -> int:
    """Run the parts, write what they find, and say what is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, mps or cpu")
    parser.add_argument("--small", action="store_true", help="a small model in place of one of 7 billion parameters")
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write, JSON")
    asked = parser.parse_args(arguments)
    try:
        device = torch.device(asked.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        print(f"There is no device {asked.device} here: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    found = check(device, SMALL if asked.small else LARGE, asked.out)
    print(table(found))
    faults = [fault for part in found["parts"].values() for fault in part["out_of_bounds"]]
    print("\n".join(f"Out of bounds: {fault}." for fault in faults) or "Everything is within its bounds.")
    return 1 if faults else 0


def check(device: torch.device, size: Size, out: Path) -> Figures:
    """All parts on a device, each written to a file when it is done."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found: Figures = {"device": name, "machine": machine(), "small": size != LARGE, "parts": {}}
    for title, part in (("exactness", exactness), ("methods", methods)):
        _run(found, title, lambda part=part: part(device, size), out)
    bundle, tokens = random_model(device, size)
    bundle.fingerprint  # noqa: B018 - hashed once, outside of all times
    for title, timed in (("measuring", measuring), ("loop", loop), ("recovery", recovery), ("generation", generation)):
        _run(found, title, lambda timed=timed: timed(bundle, tokens, size), out)
    return found


def _run(found: Figures, title: str, part: Callable[[], tuple[Figures, list[str]]], out: Path) -> None:
    began = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    figures, faults = part()
    if torch.cuda.is_available():
        figures["peak memory, GiB"] = torch.cuda.max_memory_allocated() / 2**30
    found["parts"][title] = {"seconds": time.perf_counter() - began, "figures": figures, "out_of_bounds": faults}
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{title}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def table(found: Figures) -> str:
    """What was found, a line a number."""
    rows = [(part, name, value) for part, told in found["parts"].items() for name, value in told["figures"].items()]
    return f"{found['device']}; {found['machine']}\n\n" + markdown(("part", "what", "measured"), rows)


# --- is it right? --------------------------------------------------------------------------------------


def exactness(device: torch.device, size: Size) -> tuple[Figures, list[str]]:
    """Plans and perplexities of tiny models of every family, on the device and on the CPU."""
    tokens, same, differ, apart, coarse = tiny_tokens(), 0, [], 0.0, 0.0
    for family in size.families:
        here = tiny_bundle(family)
        there = on(here, device)
        for method in ("come", "come-joint", "shortgpt"):
            plans = [come.compress(each, tokens, method, target_layers=4).plan for each in (here, there)]
            if decided(plans[0]) == decided(plans[1]):
                same += 1
            else:
                differ.append(f"{family} by {method}")
        expected = come.perplexity(here, tokens)
        apart = max(apart, abs(come.perplexity(there, tokens) / expected - 1))
        coarse = max(coarse, abs(come.perplexity(on(here, device, torch.bfloat16), tokens) / expected - 1))
    figures = {
        "plans as on the CPU": f"{same} of {same + len(differ)}",
        "perplexity, float32, relative difference": apart,
        "perplexity, bfloat16, relative difference": coarse,
    }
    faults = [f"another plan than on the CPU: {each}" for each in differ]
    faults += [f"perplexity in float32 is {apart:.1e} from the CPU's"] * (apart > FLOAT32_BOUND)
    faults += [f"perplexity in bfloat16 is {coarse:.1e} from the CPU's"] * (coarse > BFLOAT16_BOUND)
    return figures, faults


def methods(device: torch.device, size: Size) -> tuple[Figures, list[str]]:
    """CoMe and its rivals: what each takes and costs; CoMe's plan is the CPU's."""
    if size.bundled:
        bundle = come.load(MODEL, device=str(device), dtype="float32")
        tokens = come.tokens(bundle, TEXT, n_tokens=8192, seq_len=512)
        held_out = come.tokens(bundle, TEXT, n_tokens=8192, seq_len=512, split="evaluation")
    else:
        bundle, tokens, held_out = on(tiny_bundle(), device), tiny_tokens(), tiny_tokens(seed=1)
    layers = size.bundled or 4
    figures: Figures = {"perplexity of the original": come.perplexity(bundle, held_out)}
    made = {}
    for method in METHODS:
        taken = seconds(
            lambda method=method: made.update({method: come.compress(bundle, tokens, method, target_layers=layers)})
        )
        value = come.perplexity(made[method].bundle, held_out)
        figures |= {f"{method} to {layers} layers, s": taken, f"{method}, perplexity": value}
    here = come.compress(on(bundle, torch.device("cpu")), tokens, "come", target_layers=layers).plan
    same = decided(here) == decided(made["come"].plan)
    return figures | {"CoMe's plan is the CPU's": "yes" if same else "no"}, [] if same else ["CoMe's plan is another"]


def on(bundle: Bundle, device: torch.device, dtype: torch.dtype = torch.float32) -> Bundle:
    """A copy of a model elsewhere."""
    return replace(bundle, model=copy.deepcopy(bundle.model).to(device, dtype))


def decided(plan: Plan) -> list[Any]:
    """What a plan decides: kinds of steps, windows, and kept units."""
    names = ("op", "window", "layer", "kv_groups", "channels")
    return [tuple(getattr(step, name, None) for name in names) for step in plan.steps]


# --- is it quick? --------------------------------------------------------------------------------------


def random_model(device: torch.device, size: Size) -> tuple[Bundle, torch.Tensor]:
    """A Llama of a size, with random weights made where it is, and random tokens (sequences, seq_len)."""
    config = LlamaConfig(
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        vocab_size=size.vocabulary,
        max_position_embeddings=2 * size.seq_len,
        dtype=size.dtype,
    )
    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM._from_config(config, dtype=size.dtype).eval()
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, size.vocabulary, (size.sequences, size.seq_len), generator=drawn)
    return Bundle(model, tiny_tokenizer(), FAMILIES["llama"], "random"), tokens


def measuring(bundle: Bundle, tokens: torch.Tensor, size: Size) -> tuple[Figures, list[str]]:
    """The measuring pass against a plain forward of the trunk."""
    batch = default_batch_size(tokens.shape[1])
    works = [
        lambda: forward(bundle, tokens, batch),
        lambda: come.measure(bundle, tokens, similarity=("cosine", "angular")),
    ]
    plain, measured = in_turn(works, 1 + size.rounds)
    share = ratio(measured[1:], plain[1:])
    figures = {"plain forward, s": statistics.median(plain[1:]), "measuring pass / plain forward": share}
    return figures, _bound("the measuring pass", share, MEASURING_BOUND, size)


def loop(bundle: Bundle, tokens: torch.Tensor, size: Size) -> tuple[Figures, list[str]]:
    """CoMe's progressive loop against the passes that it cannot do without, and with a refit after each merge."""

    def come_loop(refit: bool) -> Plan:
        return come.compress(bundle, tokens, target_layers=size.target, refit=refit).plan

    models = models_of(bundle, come_loop(False))
    works = [lambda: necessary(models, tokens), lambda: come_loop(False), lambda: come_loop(True)]
    least, whole, refitted = in_turn(works, size.rounds)
    share = ratio(whole, least)
    figures = {
        "necessary passes, s": statistics.median(least),
        "progressive loop / necessary passes": share,
        "with refits / without": ratio(refitted, whole),
    }
    return figures, _bound("the progressive loop", share, LOOP_BOUND, size)


def recovery(bundle: Bundle, tokens: torch.Tensor, size: Size) -> tuple[Figures, list[str]]:
    """A step of a layer's training against the bare products of its weights."""
    precision = "bfloat16" if size.dtype == torch.bfloat16 else "float32"
    products, step, share = layerwise(bundle, tokens, precision, size.rounds, layer=size.layers // 2)
    figures = {
        "bare products, TFLOP/s": products / 1000,
        "a layer's step, TFLOP/s": step / 1000,
        "step / products": share,
    }
    return figures, []


def generation(bundle: Bundle, tokens: torch.Tensor, size: Size) -> tuple[Figures, list[str]]:
    """How fast the model reads and writes before and after pruning, by Transformers."""
    pruned = come.compress(bundle, tokens[:2], "shortgpt", target_layers=size.target).bundle
    prompt = min(512, size.seq_len)
    before, after = compare_speed(bundle, pruned, prompt_tokens=prompt, new_tokens=32, rounds=size.rounds)
    figures = {}
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        figures[f"{name.replace('_', ' ')}, {size.layers} layers"] = getattr(before, name)
        figures[f"{name.replace('_', ' ')}, {size.target} / {size.layers} layers"] = getattr(after, name) / getattr(
            before, name
        )
    return figures, []


def _bound(what: str, share: float, bound: float, size: Size) -> list[str]:
    """A small model's times are mostly those of starting kernels, and judge nothing."""
    return (
        [f"{what} takes {share:.2f} times what it has to, more than {bound}"] if share > bound and size == LARGE else []
    )


if __name__ == "__main__":
    sys.exit(main())
