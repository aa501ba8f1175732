"""The LLaMA-Factory arm of `benchmarks.training_cpu`: its own entry point and defaults, rows that are token ids already.

Runs with the interpreter of an environment that has `llamafactory`: `python -m benchmarks.training_llamafactory ORDER.json`.
Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", DISABLE_VERSION_CHECK="1")

VERSIONS = ("llamafactory", "torch", "transformers", "peft", "trl", "accelerate")


def main() -> None:
    """Train as the order says and print what it cost."""
    _allow_no_audio()
    import torch
    from llamafactory.train.tuner import run_exp

    from benchmarks.training_clock import Clock

    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(order["threads"])
    clock = Clock()
    run_exp(arguments(order), callbacks=[clock])
    figures = clock.figures(order["tokens_per_step"])
    versions = {name: version(name) for name in VERSIONS}
    print(json.dumps(figures | {"versions": versions}))


def _allow_no_audio() -> None:
    """Let LLaMA-Factory be imported without torchaudio, which has no build for every build of torch; text needs none."""
    if find_spec("torchaudio") is None:
        stand_in = ModuleType("torchaudio")
        stand_in.__spec__ = ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in


def arguments(order: dict[str, Any]) -> dict[str, Any]:
    """As a file for `llamafactory-cli train` would say it; what is not named is left at its default."""
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": order["model"],
        "template": "gemma",  # not used: the rows are token ids
        "dataset": "rows",  # a name is asked for; what is read is the next line
        "tokenized_path": order["rows"],
        "finetuning_type": "lora",
        "lora_target": ",".join(order["target_modules"]),
        "lora_rank": order["lora_r"],
        "lora_alpha": order["lora_alpha"],
        "output_dir": order["output"],
        "per_device_train_batch_size": order["batch_size"],
        "gradient_accumulation_steps": 1,
        "max_steps": order["steps"],
        "learning_rate": order["learning_rate"],
        "lr_scheduler_type": order["lr_scheduler"],
        "warmup_steps": order["warmup_steps"],
        "seed": order["seed"],
        "bf16": True,
        "use_cpu": True,
        "cutoff_len": 512,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "overwrite_output_dir": True,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


if __name__ == "__main__":
    main()
