"""Tokens per second of the in-process engine on the real Gemma 3 270M, base and merged adapter, at 1, 8 and 16 streams.

Run alone: `python benchmarks/inference.py [--dtype float32] [--tokens 48] [--threads 1]`. Prints one JSON object with the
machine it ran on. On a busy machine read the rates per processor second, with one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent.parent))

from libs.common.models.prepare import default_model_dir
from libs.common.models.prompting import encode
from libs.common.models.store import ModelStore
from libs.common.testing.tiny_gemma import write_tiny_adapter
from services.inference.domain.generation import Generation, ServedModel
from services.inference.engines.transformers_engine import TransformersEngine

NAME = "gemma-3-270m"
TOPICS = ["lists", "tuples", "generators", "decorators", "sets", "strings", "files", "classes"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base = ModelStore(default_model_dir()).resolve(NAME)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    engine = TransformersEngine(dtype=arguments.dtype)
    with tempfile.TemporaryDirectory() as folder:
        adapter = write_tiny_adapter(Path(folder) / "adapter", base, strength=0.01)
        engine.load(ServedModel("base", NAME, base), tokenizer.decode)
        started = time.perf_counter()
        engine.load(ServedModel("tuned", NAME, base, adapter), tokenizer.decode)
        merged_s = time.perf_counter() - started
    wall: dict[str, float] = {}
    processor: dict[str, float] = {}
    for streams in (1, 8, 16):
        for model in ("base", "tuned"):
            runs = [
                measure(engine, tokenizer, model, streams, arguments.tokens) for _ in range(arguments.repeat)
            ]
            wall[f"{model}_{streams}"] = round(max(run.wall for run in runs), 1)
            processor[f"{model}_{streams}"] = round(max(run.processor for run in runs), 1)
    engine.close()
    report = {
        "dtype": str(engine.dtype),
        "tokens_per_s": wall,
        "tokens_per_processor_s": processor,
        "ratio_8_to_1": round(processor["base_8"] / processor["base_1"], 2),
        "adapter_to_base": {
            n: round(processor[f"tuned_{n}"] / processor[f"base_{n}"], 2) for n in (1, 8, 16)
        },
        "merge_s": round(merged_s, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg(),
        },
    }
    print(json.dumps(report, indent=2))


@dataclass(frozen=True)
class Rate:
    """Tokens written per second of the clock, and per second of processor time."""

    wall: float
    processor: float


def measure(engine: TransformersEngine, tokenizer: Tokenizer, model: str, streams: int, tokens: int) -> Rate:
    """The rates of one round, reading of the prompts included."""
    prompts = [f"Question: What do {TOPICS[i % 8]} do in Python, case {i}?\nAnswer:" for i in range(streams)]
    generations = [Generation(model, tuple(encode(tokenizer, prompt)), tokens) for prompt in prompts]

    async def drain(generation: Generation) -> int:
        return [piece.completion_tokens async for piece in engine.generate(generation)][-1]

    async def all_at_once() -> int:
        return sum(await asyncio.gather(*(drain(generation) for generation in generations)))

    started, used = time.perf_counter(), time.process_time()
    written = asyncio.run(all_at_once())
    return Rate(written / (time.perf_counter() - started), written / (time.process_time() - used))


if __name__ == "__main__":
    main()
