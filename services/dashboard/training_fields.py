"""The fields of a training configuration as a form shows them: group, kind of input, help, limits and units.

All of it is read from the configuration's own schema but for the groups and the units. Draws nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from model_training.config.errors import ConfigError
from model_training.config.presets import preset_names, preset_summary
from model_training.config.training_config import TrainingConfig

Kind = Literal["switch", "choice", "choices", "whole", "number", "text", "object"]

SENT_APART = frozenset({"model_name", "training_file", "validation_file", "suffix"})
"""Fields that a request carries beside `training`."""
NOT_OURS = frozenset({"check_machine"})
"""What is about the machine that writes the settings; here the trainer's counts."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Usual", ("learning_rate", "epochs", "batch_size", "max_length", "lora_r", "load_in_4bit", "generate_rows")),
    ("Data", ("validation_fraction", "max_rows", "overlong", "train_on", "packing", "seed")),
    ("Adapter", ("method", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "rank_pattern",
                 "alpha_pattern")),
    ("Optimiser", ("gradient_accumulation", "max_steps", "warmup_ratio", "lr_scheduler", "optimizer",
                   "neftune_noise_alpha", "weight_decay", "max_grad_norm")),
    ("Machine", ("device", "backend", "bf16", "fp16", "attention", "gradient_checkpointing")),
    ("Watching, saving, stopping", ("logging_steps", "eval_steps", "save_steps", "keep_checkpoints",
                                    "early_stopping_patience", "early_stopping_min_delta", "early_stopping_warmup",
                                    "report_to")),
    ("Result", ("export", "serve_with")),
)  # fmt: skip
"""Every field of the configuration stands in one group (a test looks); the first group is open."""

UNITS = {
    "max_length": "tokens", "max_rows": "rows", "batch_size": "rows", "epochs": "passes", "max_steps": "steps",
    "logging_steps": "steps", "eval_steps": "steps", "keep_checkpoints": "checkpoints", "generate_rows": "rows",
    "early_stopping_patience": "validations", "early_stopping_warmup": "validations",
    "early_stopping_min_delta": "nats", "gradient_accumulation": "passes",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One input. `low` and `high` are limits, `optional` says that it may be empty."""

    name: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False

    @property
    def label(self) -> str:
        """The name for people, with its unit."""
        unit = UNITS.get(self.name)
        return self.name.replace("_", " ") + (f" ({unit})" if unit else "")

    @property
    def hint(self) -> str:
        """The help with the limits and the default."""
        limits = ""
        if self.low is not None and self.high is not None:
            limits = f" From {self.low:,.10g} to {self.high:,.10g}."
        elif self.low is not None:
            limits = f" At least {self.low:,.10g}."
        elif self.high is not None:
            limits = f" At most {self.high:,.10g}."
        return f"{self.help}{limits} Default: {written(self.default)}."


@cache
def fields() -> dict[str, Field]:
    """All fields by name."""
    properties: dict[str, Any] = TrainingConfig.model_json_schema()["properties"]
    return {name: _field(name, schema) for name, schema in properties.items()}


def _field(name: str, schema: dict[str, Any]) -> Field:
    variants: list[dict[str, Any]] = schema.get("anyOf", [schema])
    real = [one for one in variants if one.get("type") != "null"]
    words = tuple(one["const"] for one in real if "const" in one)
    main = next((one for one in real if "const" not in one), real[0])
    kind, choices = _kind(main, words)
    return Field(
        name=name,
        kind=kind,
        default=schema.get("default"),
        help=" ".join(schema.get("description", "").replace("`", "").split()),
        choices=choices,
        low=main.get("minimum", main.get("exclusiveMinimum")),
        high=main.get("maximum", main.get("exclusiveMaximum")),
        optional=len(real) < len(variants),
    )


def _kind(schema: dict[str, Any], words: tuple[Any, ...]) -> tuple[Kind, tuple[Any, ...]]:
    kind = schema.get("type")
    if "enum" in schema:
        return "choice", tuple(schema["enum"])
    if kind == "boolean":
        return ("choice", (*words, True, False)) if words else ("switch", ())
    if kind == "array":
        return "choices", tuple(schema["items"]["enum"])
    if kind in ("integer", "number") and not words:
        return ("whole" if kind == "integer" else "number"), ()
    return ("object" if kind == "object" else "text"), words


def written(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return json.dumps(value) if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def read(field: Field, given: Any) -> Any:
    """What a person entered, as the configuration takes it.

    Raises:
        ValueError: it is no such value; the message says what it must be.
    """
    if given is None or given == "":
        return field.default if not field.optional else None
    if field.kind == "whole":
        if float(given) != int(given):
            raise ValueError(f"{field.name} must be a whole number.")
        return int(given)
    if field.kind == "number":
        return float(given)
    if field.kind == "object" and isinstance(given, str):
        try:
            found = json.loads(given)
        except ValueError as error:
            raise ValueError(f'{field.name} must be an object in JSON, such as {{"q_proj": 32}}.') from error
        if not isinstance(found, dict):
            raise ValueError(f'{field.name} must be an object in JSON, such as {{"q_proj": 32}}.')
        return found
    if field.kind == "text" and isinstance(given, str) and given.strip().lstrip("-").isdigit():
        return int(given)
    return given


@cache
def presets() -> dict[str, str]:
    """Presets for training by name, with what they are for."""
    found: dict[str, str] = {}
    for name in preset_names():
        try:
            TrainingConfig.load(name, overrides={"check_machine": False}, env={})
        except ConfigError:
            continue  # it is for something else
        found[name] = preset_summary(name)
    return found


def preset_values(name: str) -> dict[str, Any]:
    """What a preset sets, without what is sent apart."""
    config = TrainingConfig.load(name, overrides={"check_machine": False}, env={})
    return {
        field: value
        for field, value in config.model_dump(mode="json").items()
        if config.source_of(field) != "default" and field not in NOT_OURS | (SENT_APART - {"model_name"})
    }


def changed(values: dict[str, Any]) -> dict[str, Any]:
    """Only what differs from the defaults: what is not asked for keeps the platform's own settings."""
    known = fields()
    return {name: value for name, value in values.items() if name in known and value != known[name].default}
