"""What `benchmarks.training_gpu` trains: models of random weights, made-up rows, and the trainer of each arm."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEER_ROWS = 8
"""Rows in a pass of the peers, as in their notebooks for small models."""
RANK, ALPHA, RATE = 16, 32, 2e-4
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Size:
    """The widths of a model."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    vocabulary: int = 262_144

    @property
    def body(self) -> int:
        """Weights of the linear layers."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Weights of the output matrix."""
        return self.hidden * self.vocabulary


SIZES = {
    "tiny": Size(64, 3, 128, 4, 1, 16, 16, 470),
    "270m": Size(640, 18, 2048, 4, 1, 256, 512),
    "1b": Size(1152, 26, 6912, 4, 1, 256, 512),
    "4b": Size(2560, 34, 10_240, 8, 4, 256, 1024),
}


def write_model(size: Size, directory: Path) -> None:
    """A Gemma 3 of random bfloat16 weights, as a prepared model lies there."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    from libs.common.testing.tiny_gemma import tiny_tokenizer

    config = Gemma3TextConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        query_pre_attn_scalar=size.head_dim,
        sliding_window=size.window,
        max_position_embeddings=32_768,
        layer_types=["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(size.layers)],
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **special).save_pretrained(directory)


def make_rows(count: int, vocabulary: int, seed: int = 0) -> list[Any]:
    """Rows as long as those of a packaged data set of coding questions: 24 to 187 tokens, 55 in the middle; a third is
    learnt."""
    from services.trainer.recipe.encode import Example

    luck = random.Random(seed)
    rows: list[Any] = []
    for number in range(count):
        length = min(187, max(24, round(luck.lognormvariate(4.0, 0.4))))
        ids = [luck.randrange(10, vocabulary) for _ in range(length)]
        read = length - max(4, round(length * luck.uniform(0.2, 0.45)))
        rows.append(Example(f"row-{number}", ids, [-100] * read + ids[read:]))
    return rows


def _ours(
    arguments: argparse.Namespace, base: Path, rows: Sequence[Any], method: str, output: Path, clock: Any
) -> Any:
    from libs.common.training.plan import DataFacts, Planner
    from model_training.config.training_config import TrainingConfig
    from services.trainer.recipe.backends import prepare
    from services.trainer.recipe.base import load_tokenizer
    from services.trainer.recipe.machine import machine_facts
    from services.trainer.recipe.trainer import AnswerTrainer

    config = TrainingConfig(
        check_machine=False,
        device=arguments.device,
        batch_size=arguments.rows_per_step,
        max_steps=arguments.steps,
        epochs=1000,
        learning_rate=RATE,
        lora_r=RANK,
        lora_alpha=ALPHA,
        load_in_4bit=method == "qlora",
        early_stopping_patience=0,
        save_steps=1000,
        eval_steps=1000,
    )
    plan = Planner(config, machine_facts(), DataFacts(len(rows), 0)).plan()
    model = prepare(base, plan, config)
    tokenizer = load_tokenizer(base)
    return AnswerTrainer(
        model, tokenizer, rows, config=config, plan=plan, output_dir=output, callbacks=[clock]
    )


def _trl(
    arguments: argparse.Namespace, base: Path, rows: Sequence[Any], method: str, output: Path, clock: Any
) -> Any:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTTrainer

    options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": arguments.device}}
    if method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, **options),
        args=_sft_config(arguments, output, {}),
        train_dataset=_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(LAYERS), task_type="CAUSAL_LM"),
        callbacks=[clock],
    )


def _unsloth(
    arguments: argparse.Namespace, base: Path, rows: Sequence[Any], method: str, output: Path, clock: Any
) -> Any:
    from trl import SFTTrainer
    from unsloth import FastModel

    model, tokenizer = FastModel.from_pretrained(
        str(base), max_seq_length=2048, load_in_4bit=method == "qlora", full_finetuning=False
    )
    model = FastModel.get_peft_model(
        model,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0,
        target_modules=list(LAYERS),
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=3407,
    )
    optimizer = {"optim": "adamw_8bit"} if find_spec("bitsandbytes") else {}
    return SFTTrainer(
        model=model,
        args=_sft_config(
            arguments, output, optimizer | {"weight_decay": 0.01, "lr_scheduler_type": "linear"}
        ),
        train_dataset=_dataset(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )


def _sft_config(arguments: argparse.Namespace, output: Path, more: dict[str, Any]) -> Any:
    from trl import SFTConfig

    at_once = min(PEER_ROWS, arguments.rows_per_step)
    return SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=arguments.rows_per_step // at_once,
        max_steps=arguments.steps,
        learning_rate=RATE,
        use_cpu=arguments.device == "cpu",
        bf16=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def _dataset(rows: Sequence[Any]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in rows])


BUILDERS: dict[str, Callable[..., Any]] = {"ours": _ours, "unsloth": _unsloth, "trl": _trl}
"""Each arm's trainer, ready to train: from the options, the model's folder, rows, method, an output folder and a clock."""
