"""Training speed and memory on a GPU: our recipe against Unsloth's notebook defaults and TRL's defaults, on the shapes of
Gemma 3 270M, 1B and 4B with random weights, LoRA and QLoRA, short coding rows.

    python -m benchmarks.training_gpu --output benchmarks/results/DATE-training-gpu.json

Runs with what is installed and says what is missing. Every measurement is a process of its own, and the arms take turns
`--repeats` times, so that a warm card favours none. All arms take the same rows, equally many a step, and the same LoRA; the
peers have the passes of their notebooks (8 rows at once). Weights, rows and tokenizer are made up: no model is needed, and
the loss says nothing.

The share of the card is of its own measured bfloat16 matrix rate. What counts is what must be computed for LoRA: 4
operations a weight and token in the layers, and for supervised tokens in the output matrix.

`--device cpu --shapes tiny --repeats 1` tries the code of it without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.training_gpu_arms import BUILDERS, SIZES, make_rows, write_model

ARMS = tuple(BUILDERS)
METHODS = ("lora", "qlora")
AIMS = {"270m": 1.5, "1b": 1.5, "4b share": 0.4}
"""Times the supervised tokens/s of Unsloth, and the share of the card's rate."""


def main() -> None:
    arguments = _arguments()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if arguments.one:
        print(json.dumps(_child(arguments)))
        return
    if arguments.device == "cuda" and not _has_cuda():
        sys.exit("No CUDA device is seen. `--device cpu --shapes tiny` tries the code without one.")
    report: dict[str, Any] = _facts(arguments) | {"aims": AIMS, "missing": _missing(arguments.device)}
    report["matrix_rate_tflops"] = _again("matrix")["tflops"]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in arguments.shapes:
            _again(f"model:{shape}", folder)
            for _ in range(arguments.repeats):
                runs += _turn(shape, arguments, folder, report["missing"])
                report["results"] = summary(runs, report["matrix_rate_tflops"])
                _write(arguments.output, report | {"runs": runs})
    print(json.dumps(report, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=SIZES, default=["270m", "1b", "4b"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rows-per-step", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--warm-up", type=int, default=4, help="first steps that do not count: code is compiled in them"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _turn(
    shape: str, arguments: argparse.Namespace, folder: str, missing: dict[str, str]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for method in arguments.methods:
        for arm in arguments.arms:
            if arm in missing or method in missing:
                continue
            one = _again(f"train:{shape}:{method}:{arm}", folder)
            found.append({"shape": shape, "method": method, "arm": arm, **one})
    return found


def _again(one: str, folder: str | None = None) -> dict[str, Any]:
    """This program once more, for one thing. A failure is a result: an arm may not fit into memory."""
    command = [sys.executable, "-m", "benchmarks.training_gpu", *sys.argv[1:], "--one", one]
    command += ["--folder", folder] if folder else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if not one.startswith("train:"):
        sys.exit(done.stderr)
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return {"failed": lines[-1] if lines else f"exit code {done.returncode}"}


def _child(arguments: argparse.Namespace) -> dict[str, Any]:
    what, *rest = arguments.one.split(":")
    if what == "matrix":
        return {"tflops": matrix_rate(arguments.device)}
    if what == "model":
        write_model(SIZES[rest[0]], arguments.folder / rest[0])
        return {}
    shape, method, arm = rest
    return measure(arguments, shape, method, arm)


def matrix_rate(device: str) -> float:
    """TFLOP/s of square bfloat16 matrices, the best of some tries."""
    import torch

    size, tries = (8192, 30) if device == "cuda" else (1024, 5)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        _settle(device)
        began = time.perf_counter()
        left @ right
        _settle(device)
        best = min(best, time.perf_counter() - began)
    return round(2 * size**3 / best / 1e12, 2)


def measure(arguments: argparse.Namespace, shape: str, method: str, arm: str) -> dict[str, Any]:
    """Train one arm; rates over the steps behind the warm-up."""
    if arm == "unsloth":
        import_module("unsloth")  # first: it changes the libraries that are imported after it
    import transformers

    from benchmarks.training_clock import Clock

    size = SIZES[shape]
    rows = make_rows(arguments.rows_per_step * 4, size.vocabulary)
    clock = Clock()
    transformers.set_seed(0)
    build = BUILDERS[arm]
    with tempfile.TemporaryDirectory() as output:
        trainer = build(arguments, arguments.folder / shape, rows, method, Path(output), clock)
        trainer.train()
    seconds = sum(clock.wall[arguments.warm_up :]) / (arguments.steps - arguments.warm_up)
    per_step = arguments.rows_per_step / len(rows)
    total = sum(len(row.ids) for row in rows) * per_step
    supervised = sum(row.supervised for row in rows) * per_step
    useful = 4 * (size.body * total + size.head * supervised)
    return {
        "tokens_per_s": total / seconds,
        "supervised_tokens_per_s": supervised / seconds,
        "useful_tflops": useful / seconds / 1e12,
        "steps": len(clock.wall),
        **_memory(arguments.device),
    }


def summary(runs: Sequence[dict[str, Any]], matrix_tflops: float) -> list[dict[str, Any]]:
    """Medians over the repeats of each arm, the share of the card, and our speed against each peer."""
    found: list[dict[str, Any]] = []
    for shape, method, arm in dict.fromkeys((run["shape"], run["method"], run["arm"]) for run in runs):
        mine = [run for run in runs if (run["shape"], run["method"], run["arm"]) == (shape, method, arm)]
        line: dict[str, Any] = {"shape": shape, "method": method, "arm": arm, "repeats": len(mine)}
        whole = [run for run in mine if "failed" not in run]
        if not whole:
            found.append(line | {"failed": mine[-1]["failed"]})
            continue
        names = [name for name in whole[0] if isinstance(whole[0][name], float)]
        line |= {name: round(median(run[name] for run in whole), 3) for name in names}
        found.append(line | {"share_of_matrix_rate": round(line["useful_tflops"] / matrix_tflops, 4)})
    for line in found:
        peers = [one for one in found if (one["shape"], one["method"]) == (line["shape"], line["method"])]
        if line["arm"] == "ours" and "failed" not in line:
            line["times"] = {
                peer["arm"]: round(line["supervised_tokens_per_s"] / peer["supervised_tokens_per_s"], 2)
                for peer in peers
                if peer["arm"] != "ours" and "failed" not in peer
            }
    return found


def _memory(device: str) -> dict[str, float]:
    from benchmarks.training_clock import peak_memory_bytes

    if device == "cpu":
        return {"process_gb": peak_memory_bytes() / 1e9}
    import torch

    return {
        "allocated_gb": torch.cuda.max_memory_allocated() / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
    }


def _settle(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _missing(device: str) -> dict[str, str]:
    """Arms and methods that cannot run here, and what they lack."""
    found: dict[str, str] = {}
    if find_spec("unsloth") is None:
        found["unsloth"] = "pip install unsloth"
    elif device == "cpu":
        found["unsloth"] = "runs on a GPU only"
    if find_spec("trl") is None or find_spec("datasets") is None:
        found["trl"] = "pip install trl"
    if find_spec("bitsandbytes") is None:
        found["qlora"] = "pip install bitsandbytes"
    if device == "cuda" and find_spec("flash_attn") is None:
        found["flash attention 2"] = "pip install flash-attn; ours packs on sdpa without it"
    return found


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    card = "none"
    if arguments.device == "cuda":
        import torch

        card = torch.cuda.get_device_name()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "card": card,
        "versions": _versions(
            "torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes", "flash_attn"
        ),
        "rows_per_step": arguments.rows_per_step,
        "steps": arguments.steps,
    }


def _versions(*names: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
