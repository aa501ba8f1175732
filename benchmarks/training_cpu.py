"""Training speed and memory on a CPU: our recipe, padded by length and packed, against TRL's SFTTrainer with its
defaults, on the real Gemma 3 270M.

Same rows, same batches of 16, same LoRA, same number of steps, each arm in a process of its own. Run alone:
`python -m benchmarks.training_cpu [--file runs/demo/dataset/train.jsonl] [--rows 160] [--steps 6] [--threads 1]`. Prints one
JSON object with the machine it ran on. On a busy machine read the rates per processor second, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ARMS = ("ours", "packed", "trl")
NAME = "gemma-3-270m"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, default=Path("data/training/gemma.jsonl"))
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--arm", choices=ARMS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(measure(arguments)))
        return
    arms = {arm: _apart(arm) for arm in ARMS}
    machine = {"processor": platform.processor() or platform.machine(), "threads": arguments.threads}
    rate = arms["trl"]["tokens_per_s"]
    ratios = {arm: round(arms[arm]["tokens_per_s"] / rate, 2) for arm in ARMS if arm != "trl"}
    libraries = {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        "versions": libraries,
        "arms": arms,
        "speedup": ratios,
    }
    print(json.dumps(report, indent=1))


def _apart(arm: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_cpu", *sys.argv[1:], "--arm", arm],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one arm and say what it cost. Loading and the first step are left out of the rates."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers.trainer_callback import TrainerCallback

    from libs.common.models.prepare import default_model_dir
    from libs.common.models.prompting import load_template
    from libs.common.models.store import ModelStore
    from model_training.config.training_config import TrainingConfig
    from model_training.datasets.rows import read_rows
    from services.trainer.recipe.base import load_tokenizer
    from services.trainer.recipe.encode import encode_rows
    from services.trainer.recipe.machine import peak_memory_bytes

    class Clock(TrainerCallback):
        """Times every step and keeps its loss."""

        wall: list[float]
        processor: list[float]
        losses: list[float]

        def __init__(self) -> None:
            self.wall, self.processor, self.losses = [], [], []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self._start = time.perf_counter(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.wall.append(time.perf_counter() - self._start[0])
            self.processor.append(time.process_time() - self._start[1])

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(logs["loss"])

    torch.set_num_threads(arguments.threads)
    base = ModelStore(default_model_dir()).resolve(NAME)
    config = TrainingConfig(
        check_machine=False,
        batch_size=16,
        max_steps=arguments.steps,
        epochs=100,
        learning_rate=2e-4,
        packing=arguments.arm == "packed",
    )
    tokenizer = load_tokenizer(base)
    rows = [row for row, _ in zip(read_rows(arguments.file), range(arguments.rows), strict=False)]
    examples = encode_rows(rows, tokenizer, load_template("qa"), config).examples
    clock = Clock()
    build: Callable[..., Any] = _trl if arguments.arm == "trl" else _ours
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(base, tokenizer, examples, config, Path(folder), clock)
        trainer.train()
    tokens = sum(len(example.ids) for example in examples) / len(examples) * config.batch_size
    return {
        "rows": len(examples),
        "tokens_per_step": round(tokens),
        "tokens_per_s": round(tokens / _median(clock.wall[1:])),
        "tokens_per_processor_s": round(tokens / _median(clock.processor[1:])),
        "peak_memory_gb": round(peak_memory_bytes() / 1e9, 2),
        "losses": [round(loss, 4) for loss in clock.losses],
    }


def _ours(base: Path, tokenizer: Any, examples: Any, config: Any, folder: Path, clock: Any) -> Any:
    from libs.common.training.plan import DataFacts, Planner
    from services.trainer.recipe.backends import prepare
    from services.trainer.recipe.machine import machine_facts
    from services.trainer.recipe.trainer import AnswerTrainer

    facts = DataFacts(len(examples), 0)
    plan = Planner(config, machine_facts(), facts).plan()
    return AnswerTrainer(
        prepare(base, plan, config),
        tokenizer,
        examples,
        config=config,
        plan=plan,
        output_dir=folder,
        callbacks=[clock],
    )


def _trl(base: Path, tokenizer: Any, examples: Any, config: Any, folder: Path, clock: Any) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from services.trainer.recipe.adapter import lora_config

    rows = Dataset.from_list([{"input_ids": e.ids, "labels": e.labels} for e in examples])
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=config.batch_size,
            max_steps=config.max_steps,
            use_cpu=True,
            learning_rate=config.learning_rate,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[clock],
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
