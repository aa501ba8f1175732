"""Tokens per second and time to the first token on the real Gemma 3 270M, base and adapter, at 1, 4, 8 and 16 streams:
our engine in its process, vLLM behind the same port, `transformers serve`, and plain `generate`.

    python -m benchmarks.inference --output result.json --vllm /path/to/venv/bin/vllm [--arms embedded vllm serve generate]

Each arm is a process of its own, asked for the same prompts and answers of the same length. Arms that stand in the output
already are kept, so that a long run can be done in pieces. Of `--repeat` rounds the fastest counts. On a busy machine read
the rates per processor second, which count the processes of the arm alone. `transformers serve` may end an answer early;
what it wrote is counted by its own usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
NAME = "gemma-3-270m"
ARMS = ("embedded", "vllm", "serve", "generate")
STREAMS = (1, 4, 8, 16)
TOPICS = ("lists", "tuples", "generators", "decorators", "sets", "strings", "files", "classes")
SURROUNDINGS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": "5000"}
AIMS = {"base_to_vllm": 0.9, "tuned_to_vllm": 4.0, "base_to_serve": 1.0}
"""At least so many times the peer's tokens/s, at every number of streams."""

Ask = Callable[[str, int, int], Awaitable[tuple[int, float]]]
"""Asks a model for the answer to prompt number n, so many tokens long; gives tokens written and seconds to the first."""


@dataclass(frozen=True)
class Arm:
    """What a round of an arm runs on. `pids` are the processes whose time counts."""

    models: tuple[str, ...]
    ask: Ask
    pids: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--vllm",
        help="vLLM's executable, or the URL of a server that serves the model as `base` under the key `k`; "
        "without it that arm is left out",
    )
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--run", choices=ARMS, help="run one arm in this process and print it")
    arguments = parser.parse_args()
    if arguments.run:
        sys.stdout.write(json.dumps(run_arm(arguments)) + "\n")
        return
    report = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    arms: dict[str, Any] = report.get("arms", {})
    for arm in arguments.arms:
        if arm not in arms and (arm != "vllm" or arguments.vllm):
            arms[arm] = in_a_process(arm, arguments)
            summary = {**header(arguments), "arms": arms, "ratios": ratios(arms), "aims": AIMS}
            arguments.output.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def in_a_process(arm: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.inference", *sys.argv[1:], "--run", arm]
    environment = os.environ | SURROUNDINGS
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def header(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} at the end",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "tokens_per_answer": arguments.tokens,
        "rounds": arguments.repeat,
    }


def ratios(arms: dict[str, Any]) -> dict[str, Any]:
    """Ours to each peer's, by model, by clock and by processor time."""
    ours = arms.get("embedded")
    if ours is None:
        return {}
    found: dict[str, Any] = {}
    for peer, theirs in arms.items():
        for key in theirs["tokens_per_s"].keys() & ours["tokens_per_s"].keys() if peer != "embedded" else ():
            found.setdefault(f"to_{peer}", {})[key] = {
                "clock": round(ours["tokens_per_s"][key] / theirs["tokens_per_s"][key], 2),
                "processor": round(
                    ours["tokens_per_processor_s"][key] / theirs["tokens_per_processor_s"][key], 2
                ),
            }
    return found


def run_arm(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every model at every number of streams."""
    from libs.common.models.prepare import default_model_dir
    from libs.common.models.store import ModelStore
    from libs.common.testing.tiny_gemma import write_tiny_adapter

    base = ModelStore(default_model_dir()).resolve(NAME)
    with tempfile.TemporaryDirectory() as folder:
        adapter = write_tiny_adapter(Path(folder) / "adapter", base, strength=0.01)
        with STARTERS[arguments.run](base, adapter, Path(folder), arguments) as arm:
            rates = asyncio.run(measure_all(arm, arguments))
            memory = sum(psutil.Process(pid).memory_info().rss for pid in arm.pids) >> 20
    return {
        "tokens_per_s": {key: round(max(r.wall for r in runs), 1) for key, runs in rates.items()},
        "tokens_per_processor_s": {
            key: round(max(r.processor for r in runs), 1) for key, runs in rates.items()
        },
        "first_token_ms": {key: round(min(r.first_ms for r in runs)) for key, runs in rates.items()},
        "resident_mb": memory,
        "load": os.getloadavg()[0],
    }


@dataclass(frozen=True)
class Rate:
    """Tokens per second of the clock and of processor time; the median wait for the first, in milliseconds."""

    wall: float
    processor: float
    first_ms: float


async def measure_all(arm: Arm, arguments: argparse.Namespace) -> dict[str, list[Rate]]:
    for model in arm.models:
        await arm.ask(model, 0, 4)
    rates: dict[str, list[Rate]] = {}
    for round_number in range(arguments.repeat):
        for streams in arguments.streams:
            for model in arm.models:
                rate = await measure(arm, model, round_number * 100 + streams, streams, arguments.tokens)
                rates.setdefault(f"{model}_{streams}", []).append(rate)
    return rates


async def measure(arm: Arm, model: str, first: int, streams: int, tokens: int) -> Rate:
    """One round, reading of the prompts included."""
    started, used = time.perf_counter(), processor_seconds(arm.pids)
    answers = await asyncio.gather(*(arm.ask(model, first + i, tokens) for i in range(streams)))
    wall, processor = time.perf_counter() - started, processor_seconds(arm.pids) - used
    written = sum(count for count, _ in answers)
    return Rate(written / wall, written / processor, 1000 * statistics.median(wait for _, wait in answers))


def processor_seconds(pids: tuple[int, ...]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(t.user + t.system for t in times)


def family(pid: int) -> tuple[int, ...]:
    process = psutil.Process(pid)
    return (pid, *(child.pid for child in process.children(recursive=True)))


def prompt(number: int) -> str:
    return f"Question: What do {TOPICS[number % 8]} do in Python, case {number}?\nAnswer:"


def through_port(engine: Any, tokenizer: Any) -> Ask:
    """Asks an engine of ours: the prompt as ids, and no token ends the answer."""
    from libs.common.models.prompting import encode
    from services.inference.domain.generation import Generation

    async def ask(model: str, number: int, tokens: int) -> tuple[int, float]:
        started, first, written = time.perf_counter(), 0.0, 0
        async for piece in engine.generate(
            Generation(model, tuple(encode(tokenizer, prompt(number))), tokens)
        ):
            first = first or time.perf_counter() - started
            written = piece.completion_tokens
        return written, first

    return ask


def load_both(engine: Any, base: Path, adapter: Path) -> Any:
    from services.inference.adapters.tokenizer import load_tokenizer
    from services.inference.domain.generation import ServedModel

    tokenizer = load_tokenizer(base)
    engine.load(ServedModel("base", "base", base), tokenizer.decode)
    engine.load(ServedModel("tuned", "base", base, adapter, "bench"), tokenizer.decode)
    return tokenizer


@contextmanager
def embedded(base: Path, adapter: Path, _: Path, __: argparse.Namespace) -> Generator[Arm]:
    from services.inference.engines.transformers_engine import TransformersEngine

    engine = TransformersEngine(threads=os.cpu_count())
    tokenizer = load_both(engine, base, adapter)
    yield Arm(("base", "tuned"), through_port(engine, tokenizer), (os.getpid(),))
    engine.close()


@contextmanager
def vllm(base: Path, adapter: Path, folder: Path, arguments: argparse.Namespace) -> Generator[Arm]:
    from services.inference.adapters.vllm_engine import VllmEngine
    from services.inference.adapters.vllm_process import Launch

    attached = arguments.vllm.startswith("http")
    launch = Launch(
        executable=Path(arguments.vllm),
        log=folder / "vllm.log",
        arguments=("--enforce-eager",),
        dtype="bfloat16",
        window=2048,
        max_rank=8,
        max_adapters=1,
    )
    engine = VllmEngine(url=arguments.vllm, key="k") if attached else VllmEngine(launch=launch)
    try:
        tokenizer = load_both(engine, base, adapter)
        pid = engine.pid or listener(arguments.vllm.rpartition(":")[2])
        yield Arm(("base", "tuned"), through_port(engine, tokenizer), family(pid))
    finally:
        engine.unload("tuned")
        engine.close()


def listener(port: str) -> int:
    """The process that was started with `--port <port>`."""
    found = (p for p in psutil.process_iter(["cmdline"]) if port in (p.info["cmdline"] or ()))
    return next(found).pid


@contextmanager
def serve(base: Path, _: Path, folder: Path, __: argparse.Namespace) -> Generator[Arm]:
    """`transformers serve` as it comes, with continuous batching. It has no LoRA adapters by name."""
    from services.inference.adapters.vllm_process import free_port

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(base)]
    command += ["--port", str(port), "--dtype", "bfloat16", "--device", "cpu", "--continuous-batching"]
    with (folder / "serve.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_for(url, child, folder / "serve.log")
        yield Arm(("base",), over_http(url, str(base)), family(child.pid))
    finally:
        child.terminate()
        child.wait(timeout=30)


def wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        if child.poll() is not None:
            raise SystemExit(log.read_text(encoding="utf-8", errors="replace")[-3000:])
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code < 500:
                return
        except httpx.HTTPError:
            time.sleep(0.5)


def over_http(url: str, name: str) -> Ask:
    client = httpx.AsyncClient(base_url=url, timeout=600)

    async def ask(_: str, number: int, tokens: int) -> tuple[int, float]:
        body = {"model": name, "prompt": prompt(number), "temperature": 0, "max_tokens": tokens}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        started, first, written = time.perf_counter(), 0.0, 0
        async with client.stream("POST", "/v1/completions", json=body) as reply:
            if reply.status_code != 200:
                raise SystemExit((await reply.aread()).decode()[:1000])
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if any(choice.get("text") for choice in event.get("choices", [])):
                    first = first or time.perf_counter() - started
                    written += 1
                if event.get("usage"):
                    written = int(event["usage"]["completion_tokens"])
        return written, first

    return ask


@contextmanager
def generate(base: Path, adapter: Path, _: Path, __: argparse.Namespace) -> Generator[Arm]:
    """One `generate` for all prompts of a round, padded on the left; the adapter stays unmerged, as PEFT loads it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    tuned: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter
    )
    models = {"base": plain, "tuned": tuned.eval()}
    waiting: list[tuple[int, asyncio.Future[tuple[int, float]]]] = []

    def write(model: Any, numbers: list[int], tokens: int) -> float:
        inputs = tokenizer([prompt(number) for number in numbers], return_tensors="pt", padding=True)
        started = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        return time.perf_counter() - started

    async def ask(model: str, number: int, tokens: int) -> tuple[int, float]:
        own: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        waiting.append((number, own))
        await asyncio.sleep(0)  # the others of this round come, too
        if waiting and waiting[0][1] is own:
            batch, waiting[:] = list(waiting), []
            seconds = write(models[model], [n for n, _ in batch], tokens)
            for _, future in batch:
                future.set_result((tokens, seconds))  # nothing is seen before all is written
        return await own

    yield Arm(("base", "tuned"), ask, (os.getpid(),))


STARTERS: dict[str, Callable[..., Any]] = {
    "embedded": embedded,
    "vllm": vllm,
    "serve": serve,
    "generate": generate,
}

if __name__ == "__main__":
    main()
