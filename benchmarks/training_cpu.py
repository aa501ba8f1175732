"""Training speed, memory and final loss on a CPU: our recipe, padded by length and packed, against TRL's SFTTrainer with
its defaults and LLaMA-Factory's recipe, on the real Gemma 3 270M.

Same rows, same batches of 16, same LoRA, learning rate and number of steps, each arm in a process of its own; then the loss
of every arm's adapter on the same rows that none has seen, measured alike by plain transformers and PEFT. The seed is the
same, the order of the rows is each trainer's own.

    python -m benchmarks.training_cpu --rows data.jsonl --output result.json [--llamafactory /path/to/its/python]

LLaMA-Factory wants an environment of its own: `python -m venv lf && lf/bin/pip install llamafactory`. Arms that stand in the
output file already are not run again, so that a long run can be done in pieces (`--arms ours trl`). On a busy machine read
the rates per processor second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = ("ours", "packed")
"""Padded as by default on a CPU, and packed."""
ARMS = (*OURS, "trl", "trl_no_checkpointing", "llamafactory")
PEERS = ("trl", "llamafactory")
"""The arms that ours is compared with: as they come. TRL without gradient checkpointing is shown beside them."""
NAME = "gemma-3-270m"
BATCH = 16
SURROUNDINGS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": "1000"}
"""For every arm. The last keeps threads that wait from spinning, which would count as processor seconds."""
AIMS = {"speed": 1.5, "memory": 1.0, "loss": 0.01}
"""At least so many times the tokens/s of the better peer, at most so many times its memory, loss within so much of it."""


def main() -> None:
    arguments = _arguments()
    os.environ.update(SURROUNDINGS, OMP_NUM_THREADS=str(arguments.threads))
    if arguments.arm:
        print(json.dumps(measure(arguments, Path(arguments.adapter))))
        return
    if arguments.score:
        print(json.dumps(score(arguments, Path(arguments.score))))
        return
    report = _read(arguments.output)
    report.setdefault("arms", {})
    for arm in arguments.arms:
        if arm == "llamafactory" and not arguments.llamafactory:
            report["missing"] = {
                arm: "give the interpreter of its environment: --llamafactory /path/to/bin/python"
            }
        elif arm not in report["arms"]:
            report.get("missing", {}).pop(arm, None)
            report["arms"][arm] = _one(arm, scored=arguments.rates_of is None)
            report |= _facts(arguments)
            _write(arguments.output, report)
    report["verdict"] = verdict(report["arms"])
    _write(arguments.output, report)
    print(json.dumps(report, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=Path, default=Path("data/training/gemma.jsonl"), help="JSON Lines with rows"
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--held-out", type=int, default=64, help="rows that the final loss is measured on")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--llamafactory", metavar="PYTHON", help="interpreter of an environment with llamafactory"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument(
        "--rates-of", type=int, metavar="STEPS", help="take only so many of the steps: no loss to compare"
    )
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(arm: str, *, scored: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        adapter = str(Path(folder) / "adapter")
        figures = _again("--arm", arm, "--adapter", adapter)
        return figures | _again("--score", adapter) if scored else figures


def _again(*more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training_cpu", *sys.argv[1:], *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    return json.loads(done.stdout.splitlines()[-1])


def verdict(arms: dict[str, Any]) -> dict[str, Any]:
    """Each arm of ours against the better peer, for each aim."""
    peers = {name: arms[name] for name in PEERS if name in arms}
    if not peers:
        return {}
    # Processor seconds, because what else runs on a machine takes the wall clock's.
    best_rate = max(peer["tokens_per_processor_s"] for peer in peers.values())
    least_memory = min(peer["peak_memory_gb"] for peer in peers.values())
    compared = {
        name: {
            "speed": round(arms[name]["tokens_per_processor_s"] / best_rate, 2),
            "memory": round(arms[name]["peak_memory_gb"] / least_memory, 2),
            **_loss(arms[name], peers),
        }
        for name in OURS
        if name in arms
    }
    return {"aims": AIMS, **compared}


def _loss(arm: dict[str, Any], peers: dict[str, Any]) -> dict[str, float]:
    """How far above the best peer's the final loss is; of those that took as many steps."""
    alike = [
        peer["held_out_loss"]
        for peer in peers.values()
        if "held_out_loss" in peer and peer["steps"] == arm["steps"]
    ]
    whole = alike and "held_out_loss" in arm
    return {"loss": round(arm["held_out_loss"] / min(alike) - 1, 4)} if whole else {}


def measure(arguments: argparse.Namespace, adapter: Path) -> dict[str, Any]:
    """Train one arm, leave its adapter in a directory and say what it cost."""
    import torch

    from benchmarks.training_clock import Clock
    from libs.common.training.plan import DataFacts, Planner
    from services.trainer.recipe.machine import machine_facts

    torch.set_num_threads(arguments.threads)
    config = _config(arguments)
    tokenizer, examples, _ = _examples(arguments, config)
    plan = Planner(config, machine_facts(), DataFacts(len(examples), 0)).plan()
    # Steps take as many rows as there are; every arm sees each row equally often, give or take one.
    per_step = sum(len(example.ids) for example in examples) / len(examples) * config.batch_size
    if arguments.arm == "llamafactory":
        return _llamafactory(arguments, config, plan, examples, per_step, adapter)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        build = _ours if arguments.arm in OURS else _trl
        trainer = build(arguments.arm, tokenizer, examples, config, plan, Path(folder), clock)
        trainer.train()
        trainer.model.save_pretrained(str(adapter), save_embedding_layers=False)
    return clock.figures(per_step)


def _config(arguments: argparse.Namespace) -> Any:
    from model_training.config.training_config import TrainingConfig

    return TrainingConfig(
        check_machine=False,
        batch_size=BATCH,
        max_steps=arguments.rates_of or arguments.steps,
        epochs=100,
        learning_rate=2e-4,
        seed=arguments.seed,
        packing=arguments.arm == "packed",
    )


def _base() -> Path:
    from libs.common.models.prepare import default_model_dir
    from libs.common.models.store import ModelStore

    return ModelStore(default_model_dir()).resolve(NAME)


def _examples(arguments: argparse.Namespace, config: Any) -> tuple[Any, list[Any], list[Any]]:
    """The tokenizer, the rows to train on, and the rows held out. Those are a whole number of epochs where the file has as
    many rows as the steps need, and the same for every arm."""
    from libs.common.models.prompting import load_template
    from model_training.datasets.rows import read_rows
    from services.trainer.recipe.base import load_tokenizer
    from services.trainer.recipe.encode import encode_rows

    tokenizer = load_tokenizer(_base())
    examples = encode_rows(read_rows(arguments.rows), tokenizer, load_template("qa"), config).examples
    random.Random(arguments.seed).shuffle(examples)
    held_out, rest = examples[: arguments.held_out], examples[arguments.held_out :]
    return tokenizer, rest[: arguments.steps * BATCH], held_out


def _ours(arm: str, tokenizer: Any, examples: Any, config: Any, plan: Any, folder: Path, clock: Any) -> Any:
    import transformers

    from services.trainer.recipe.backends import prepare
    from services.trainer.recipe.trainer import AnswerTrainer

    transformers.set_seed(config.seed)
    return AnswerTrainer(
        prepare(_base(), plan, config),
        tokenizer,
        examples,
        config=config,
        plan=plan,
        output_dir=folder,
        callbacks=[clock],
    )


def _trl(arm: str, tokenizer: Any, examples: Any, config: Any, plan: Any, folder: Path, clock: Any) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from services.trainer.recipe.adapter import lora_config

    more = {"gradient_checkpointing": False} if arm == "trl_no_checkpointing" else {}
    rows = Dataset.from_list([{"input_ids": e.ids, "labels": e.labels} for e in examples])
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(_base(), dtype=torch.bfloat16),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=config.batch_size,
            max_steps=config.max_steps,
            use_cpu=True,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler,
            warmup_steps=plan.warmup_steps,
            seed=config.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **more,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[clock],
    )


def _llamafactory(
    arguments: argparse.Namespace, config: Any, plan: Any, examples: Any, per_step: float, adapter: Path
) -> dict[str, Any]:
    from datasets import Dataset, DatasetDict

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"input_ids": e.ids, "attention_mask": [1] * len(e.ids), "labels": e.labels} for e in examples
        ]
        DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(folder / "rows"))
        order = {
            "model": str(_base()),
            "rows": str(folder / "rows"),
            "output": str(adapter),
            "target_modules": list(config.target_modules),
            "lora_r": config.lora_r,
            "lora_alpha": int(config.lora_alpha),
            "batch_size": config.batch_size,
            "steps": config.max_steps,
            "learning_rate": config.learning_rate,
            "lr_scheduler": config.lr_scheduler,
            "warmup_steps": plan.warmup_steps,
            "seed": config.seed,
            "threads": arguments.threads,
            "tokens_per_step": per_step,
        }
        (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        command = [
            arguments.llamafactory,
            "-m",
            "benchmarks.training_llamafactory",
            str(folder / "order.json"),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return json.loads(done.stdout.splitlines()[-1])


def score(arguments: argparse.Namespace, adapter: Path) -> dict[str, float]:
    """Nats per learnt token on the held-out rows, by transformers' own logits, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    _, _, held_out = _examples(arguments, _config(arguments))
    base = AutoModelForCausalLM.from_pretrained(_base(), dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(base, str(adapter)).eval()
    total, tokens = 0.0, 0
    for example in held_out:
        ids, labels = torch.tensor([example.ids]), torch.tensor(example.labels[1:])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        tokens += int((labels != -100).sum())
    return {"held_out_loss": round(total / tokens, 4), "held_out_rows": len(held_out)}


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    libraries = ("torch", "transformers", "peft", "trl", "accelerate")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "threads": arguments.threads,
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in libraries},
        "asked": {
            "rows": arguments.rows.name,
            "steps": arguments.steps,
            "batch": BATCH,
            "seed": arguments.seed,
        },
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _read(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}


def _write(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
