"""How to fine-tune: the model, the data, the LoRA adapter, the optimiser, and the machine.

The defaults train Gemma 3 270M on a few hundred short question-and-answer rows on a CPU. Whether a job fits the machine's
memory is estimated by the trainer, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from model_training.config.base_config import BaseConfig, Fault, refuse
from model_training.config.catalogue import CatalogueEntry, find_model, get_model, unknown_model_hint
from model_training.config.machine import Machine, this_machine

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VLLM_HIGHEST_RANK = 512
"""The largest `--max-lora-rank` that vLLM takes."""
Auto = Literal["auto"]
TargetModule = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class TrainingConfig(BaseConfig):
    """Settings of one fine-tuning job."""

    kind: ClassVar[str] = "training"
    also_known_as: ClassVar[dict[str, str]] = {
        "base_model": "model_name",
        "model": "model_name",
        "lr": "learning_rate",
        "n_epochs": "epochs",
        "num_epochs": "epochs",
        "num_train_epochs": "epochs",
        "per_device_train_batch_size": "batch_size",
        "gradient_accumulation_steps": "gradient_accumulation",
        "lora_rank": "lora_r",
        "r": "lora_r",
        "rank": "lora_r",
        "max_seq_length": "max_length",
        "lr_scheduler_type": "lr_scheduler",
        "attn_implementation": "attention",
        "output_name": "suffix",
        "optim": "optimizer",
        "neftune_alpha": "neftune_noise_alpha",
        "sample_packing": "packing",
        "load_in_4_bit": "load_in_4bit",
        "finetuning_type": "method",
    }

    # The model and what it learns from
    model_name: str = "gemma-3-270m"
    """Model to fine-tune: a name of the catalogue (`mt config models`) or its hub id."""
    training_file: str = Field(default="data/training", min_length=1)
    """JSON Lines file with training rows, or a folder whose `*.jsonl` files are read in the order of their names."""
    validation_file: str | None = None
    """Rows to validate on. Without it, `validation_fraction` of the training rows is held out."""
    validation_fraction: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the training rows held out for validation, chosen by `seed`; groups of near-equal rows stay whole."""
    max_rows: int | None = Field(default=None, ge=1)
    """Use at most so many rows, chosen by `seed`. None uses all."""
    max_length: int = Field(default=512, ge=16, le=1_000_000)
    """Longest row in tokens, question and answer together; longer rows are refused or cut, see `overlong`."""
    overlong: Literal["drop", "truncate", "refuse"] = "drop"
    """What happens to rows above `max_length`: left out, cut at the end, or the job is refused. All are reported."""
    train_on: Literal["answers", "everything"] = "answers"
    """Tokens that the loss counts: those of the answers, or all of them."""

    # The adapter
    method: Literal["lora", "full"] = "lora"
    """`lora` trains an adapter, `full` every weight: that takes 16 bytes of memory a parameter besides activations, usually
    a tenth of LoRA's learning rate, and gives a whole model, to be prepared as a base (`mt models prepare FOLDER`)."""
    lora_r: int = Field(default=16, ge=1, le=1024)
    """Rank of the LoRA matrices: more rank can learn more and costs memory."""
    lora_alpha: float = Field(default=32, gt=0, le=4096)
    """Scale of the adapter: its output is multiplied by alpha / r, or by alpha / sqrt(r) with `use_rslora`."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: list[TargetModule] = Field(default=list(LINEAR_LAYERS), min_length=1)
    """Linear layers that get an adapter. The default is all of them, attention and feed-forward."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r), which keeps high ranks stable."""
    use_dora: bool = False
    """DoRA: learn the length of each weight row apart from its direction. vLLM cannot serve it, see `serve_with`."""
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(default={})
    """Another rank for layers whose name matches: the end of a name (`q_proj`, `layers.0.self_attn.q_proj`) or a regular
    expression."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, le=4096)]] = Field(default={})
    """Another alpha for layers whose name matches, as with `rank_pattern`."""
    load_in_4bit: bool = False
    """QLoRA: hold the base weights in 4 bits (NF4, double quantisation), on a GPU or a CPU."""

    # The optimiser
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """Highest learning rate, reached at the end of the warm-up."""
    batch_size: int = Field(default=16, ge=1, le=4096)
    """Rows in one forward pass."""
    gradient_accumulation: int = Field(default=1, ge=1, le=4096)
    """Forward passes per optimiser step; rows per step are `batch_size` times this."""
    epochs: int = Field(default=2, ge=1, le=1000)
    """Times that every row is seen. `max_steps` can end the job earlier."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps after which the job ends, whatever `epochs` says. None: the epochs decide."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    lr_scheduler: Literal["linear", "cosine", "constant", "wsd"] = "cosine"
    """Course of the learning rate after the warm-up. `wsd` (warm-up, stable, decay) holds it, then lets it fall to 0 in the
    last tenth of the steps."""
    optimizer: Literal["auto", "adamw", "adamw_fused", "adamw_8bit"] = "auto"
    """AdamW: one kernel a parameter, one for all (`adamw_fused`), or moments in 8 bits. `auto` is the fused one."""
    neftune_noise_alpha: float | None = Field(default=None, gt=0, le=100)
    """NEFTune: noise on the embeddings while training, which can help small data sets; 5 is the usual value."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients whose norm is above this are scaled down to it."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the split, the order of rows, the adapter's first values and dropout."""

    # The machine
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train. `auto` takes an NVIDIA GPU when there is one."""
    backend: Literal["auto", "transformers", "unsloth"] = "auto"
    """What trains. `auto` takes Unsloth on a GPU where it is installed, otherwise transformers with PEFT."""
    bf16: Auto | bool = "auto"
    """Compute in bfloat16. `auto` uses it where device and model allow. Excludes `fp16`."""
    fp16: Auto | bool = "auto"
    """Compute in float16 with loss scaling, for GPUs without bfloat16. Excludes `bf16`."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention code. `auto` takes the fastest that is right for the model."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    packing: Auto | bool = "auto"
    """Lay the rows of a step end to end instead of padding them; no row sees another. `auto` packs on a GPU."""
    check_machine: bool = True
    """Check here that this machine has the device and packages that the settings need. Set it to false to write settings
    for another machine; the trainer there always checks."""

    # Watching, saving, stopping
    logging_steps: int = Field(default=1, ge=1)
    """Steps between two reports of loss, learning rate, gradient norm and speed."""
    eval_steps: int = Field(default=20, ge=1)
    """Steps between two validations; one more follows the last step."""
    save_steps: int | Auto = "auto"
    """Steps between two checkpoints; a multiple of `eval_steps`. `auto` saves after every validation."""
    keep_checkpoints: int = Field(default=2, ge=1, le=100)
    """Newest checkpoints to keep; the best one by validation loss stays besides."""
    early_stopping_patience: int = Field(default=3, ge=0)
    """Validations in a row without a better loss after which training stops. 0 never stops early."""
    early_stopping_min_delta: float = Field(default=0.0, ge=0)
    """How much lower a validation loss must be to count as better."""
    early_stopping_warmup: int = Field(default=0, ge=0)
    """Validations before the first that can count against the patience."""
    generate_rows: int = Field(default=0, ge=0, le=1000)
    """Validation rows that are answered at each validation and compared with their answers: exact match, how many
    answers are code that parses, and how many pass where rows have a `check` as evaluation items do. 0 generates nothing."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(default=[])
    """Trackers that get the metrics as well. The package of each must be installed where the trainer runs."""

    # The result
    suffix: str | None = Field(
        default=None, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    """A word in the name of the tuned model, to recognise it by."""
    export: list[Literal["merged", "gguf"]] = Field(default=[])
    """What the artifact holds besides the adapter: the merged model in 16 bits, and the same as a GGUF file."""
    serve_with: Literal["transformers", "vllm"] = "transformers"
    """Engine that will serve the adapter. What it cannot serve is refused before training."""

    @field_validator("model_name")
    @classmethod
    def _known_model(cls, value: str) -> str:
        entry = find_model(value)
        if entry is None:
            raise refuse("is not in the catalogue", unknown_model_hint(value))
        return entry.name

    @field_validator("target_modules")
    @classmethod
    def _each_once(cls, value: list[TargetModule]) -> list[TargetModule]:
        return [module for index, module in enumerate(value) if module not in value[:index]]

    @field_validator("save_steps")
    @classmethod
    def _positive(cls, value: int | Auto) -> int | Auto:
        if isinstance(value, int) and value < 1:
            raise refuse("must be at least 1 or 'auto'")
        return value

    @property
    def model(self) -> CatalogueEntry:
        """The catalogue's entry of the model."""
        return get_model(self.model_name)

    @property
    def precision(self) -> Literal["auto", "bf16", "fp16", "fp32"]:
        """The precision asked for; `auto` leaves it to the trainer."""
        if self.bf16 is True:
            return "bf16"
        if self.fp16 is True:
            return "fp16"
        return "fp32" if self.bf16 is False and self.fp16 is False else "auto"

    @property
    def highest_rank(self) -> int:
        """The largest rank of any layer."""
        return max(self.lora_r, *self.rank_pattern.values(), 1)

    @property
    def steps_between_saves(self) -> int:
        """`save_steps` with `auto` resolved."""
        return self.eval_steps if self.save_steps == "auto" else self.save_steps

    def rules(self) -> Iterator[Fault]:
        """Rules among the fields, then, unless `check_machine` is off, what this machine lacks for them."""
        yield from self._precision_rules()
        yield from self._method_rules()
        yield from self._length_rules()
        yield from self._validation_rules()
        if self.device == "cpu" and self.backend == "unsloth":
            yield Fault(
                "backend",
                "Unsloth trains on a GPU only, and device is 'cpu'",
                "unsloth",
                "Use 'transformers'.",
            )
        if self.device == "cpu" and self.attention == "flash_attention_2":
            hint = "Use 'sdpa' or 'auto'."
            yield Fault("attention", "runs on a GPU only, and device is 'cpu'", self.attention, hint)
        if self.serve_with == "vllm" and self.use_dora:
            hint = "Set use_dora to false, or serve_with to 'transformers'."
            yield Fault("use_dora", "vLLM serves no DoRA adapters, and serve_with is 'vllm'", True, hint)
        if self.serve_with == "vllm" and self.highest_rank > VLLM_HIGHEST_RANK:
            rule = f"vLLM serves ranks up to {VLLM_HIGHEST_RANK}, and serve_with is 'vllm'"
            yield Fault("lora_r", rule, self.highest_rank, "Lower lora_r and the ranks of rank_pattern.")
        if self.check_machine:
            yield from self.machine_rules(this_machine())

    def machine_rules(self, machine: Machine) -> Iterator[Fault]:
        """What `machine` lacks for these settings."""
        gpu = machine.nvidia_gpu and self.device != "cpu"
        elsewhere = "Set check_machine to false to write settings for another machine."
        if self.device == "cuda" and not machine.nvidia_gpu:
            yield Fault(
                "device", "no NVIDIA GPU is seen on this machine", "cuda", f"Use 'auto' or 'cpu'. {elsewhere}"
            )
        if self.load_in_4bit and not machine.has("bitsandbytes"):
            hint = f"Install it: pip install bitsandbytes. {elsewhere}"
            yield Fault("load_in_4bit", "needs the package bitsandbytes, which is not installed", True, hint)
        elif self.load_in_4bit and not gpu and not machine.quantises_on_cpu:
            rule = f"bitsandbytes has no 4-bit code for this processor ({machine.processor}), and there is no GPU"
            yield Fault("load_in_4bit", rule, True, f"Set it to false. {elsewhere}")
        if self.optimizer == "adamw_8bit" and not (gpu and machine.has("bitsandbytes")):
            rule = "needs an NVIDIA GPU and the package bitsandbytes"
            yield Fault("optimizer", rule, self.optimizer, f"Use 'auto' or 'adamw'. {elsewhere}")
        for tracker in self.report_to:
            if not machine.has(tracker):
                hint = f"Install it: pip install {tracker}. {elsewhere}"
                yield Fault("report_to", f"{tracker} is not installed", tracker, hint)
        if self.fp16 is True and self.device == "auto" and not gpu:
            rule = "float16 trains on a GPU only, and none is seen on this machine"
            yield Fault("fp16", rule, True, f"Use bf16. {elsewhere}")
        if self.backend == "unsloth" and not (gpu and machine.has("unsloth")):
            rule = "needs an NVIDIA GPU and the package unsloth"
            yield Fault("backend", rule, "unsloth", f"Use 'auto' or 'transformers'. {elsewhere}")
        if self.attention == "flash_attention_2" and not (gpu and machine.has("flash_attn")):
            rule = "needs an NVIDIA GPU and the package flash-attn"
            yield Fault("attention", rule, self.attention, f"Use 'auto' or 'sdpa'. {elsewhere}")

    def _method_rules(self) -> Iterator[Fault]:
        """What is an adapter's cannot be asked for where there is none."""
        if self.method == "lora":
            return
        for name in ("load_in_4bit", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern"):
            if value := getattr(self, name):
                yield Fault(
                    name,
                    "is for adapters, and method is 'full'",
                    value,
                    "Leave it out, or set method to 'lora'.",
                )
        if self.backend == "unsloth":
            hint = "Use 'transformers' or 'auto'."
            yield Fault("backend", "trains adapters only here, and method is 'full'", self.backend, hint)
        if "merged" in self.export:
            hint = "Leave it out: the artifact is that model."
            yield Fault("export", "there is no adapter to merge, and method is 'full'", self.export, hint)

    def _precision_rules(self) -> Iterator[Fault]:
        if self.bf16 is True and self.fp16 is True:
            hint = "Set the other one to false first, or both at once: config.update(bf16=False, fp16=True)."
            yield Fault("fp16", "excludes bf16, which is true as well", True, hint)
        elif self.fp16 is True and self.device == "cpu":
            yield Fault(
                "fp16", "float16 trains on a GPU only, and device is 'cpu'", True, "Use bf16 or neither."
            )

    def _length_rules(self) -> Iterator[Fault]:
        limit = self.model.context_length
        if self.max_length > limit:
            rule = f"{self.model_name} reads at most {limit:,} tokens"
            both = f"config.update(model_name={self.model_name!r}, max_length={limit})"
            hint = f"Lower max_length first, or change both at once: {both}."
            yield Fault("max_length", rule, self.max_length, hint)

    def _validation_rules(self) -> Iterator[Fault]:
        if self.early_stopping_patience and not self.validation_fraction and self.validation_file is None:
            rule = "needs rows to validate on, and validation_fraction is 0 without a validation_file"
            both = "config.update(validation_fraction=0, early_stopping_patience=0)"
            hint = f"Set early_stopping_patience to 0 as well: {both}."
            yield Fault("early_stopping_patience", rule, self.early_stopping_patience, hint)
        if isinstance(self.save_steps, int) and self.save_steps % self.eval_steps:
            rule = f"must be a multiple of eval_steps ({self.eval_steps}), because a checkpoint carries its validation loss"
            yield Fault("save_steps", rule, self.save_steps, "Use 'auto' or a multiple.")
