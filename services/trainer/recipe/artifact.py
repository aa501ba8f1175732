"""The directory that a finished job leaves: adapter, settings, metrics, fingerprint, lineage, a card for people."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel

from libs.common.models.store import LICENCE_FILES
from libs.common.training.plan import Plan
from services.trainer.domain import TrainOrder
from services.trainer.recipe.fingerprint import Fingerprint
from services.trainer.recipe.trainer import save_adapter


@dataclass(frozen=True)
class Outcome:
    """What there is to say about a finished training run. `history` is the trainer's log, one dict a line."""

    metrics: dict[str, float]
    data: dict[str, Any]
    history: list[dict[str, float]]
    lineage: dict[str, Any]


def write_adapter(model: PeftModel, order: TrainOrder, directory: Path) -> None:
    """Write the adapter under the base's catalogue name, not under the path that it was loaded from."""
    model.peft_config["default"].base_model_name_or_path = order.model
    save_adapter(model, directory)


def write_documents(
    directory: Path, order: TrainOrder, plan: Plan, outcome: Outcome, fingerprint: Fingerprint
) -> None:
    """Write everything beside the adapter."""
    applied = {name: value for name, value in vars(plan).items() if name != "effective"}
    effective = [setting.model_dump(mode="json") for setting in plan.effective]
    _write_json(
        directory / "training_config.json",
        {"asked": order.config, "applied": applied, "effective": effective},
    )
    _write_json(directory / "data.json", outcome.data)
    _write_json(directory / "metrics.json", outcome.metrics)
    _write_json(directory / "history.json", outcome.history)
    _write_json(directory / "lineage.json", outcome.lineage)
    _write_json(directory / "fingerprint.json", fingerprint.to_dict())
    _draw_curve(directory / "loss.png", outcome.history)
    for name in LICENCE_FILES:
        if (source := Path(order.model_path) / name).is_file():
            shutil.copyfile(source, directory / name)
    (directory / "README.md").write_text(_card(order, outcome), encoding="utf-8")


def fresh_directory(parent: Path) -> Path:
    """An empty directory to write into; what an earlier attempt left unfinished is removed."""
    for stale in parent.glob(".artifact-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=".artifact-", dir=parent))


def publish(written: Path, target: Path) -> Path:
    """Give a finished directory its name. One of an earlier attempt is replaced."""
    if target.exists():
        shutil.rmtree(target)
    os.replace(written, target)
    return target


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _draw_curve(path: Path, history: list[dict[str, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(line["step"], line[name]) for line in history if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if name == "eval_loss" else None)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per supervised token)")
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _card(order: TrainOrder, outcome: Outcome) -> str:
    licence = "gemma" if order.licence.startswith("Gemma") else "apache-2.0"
    notice = (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
        "This adapter is a derivative of Gemma and stands under the same terms, the prohibited uses among them."
        if licence == "gemma"
        else f"The base model stands under {order.licence}."
    )
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(outcome.metrics.items()))
    train = outcome.data["train"]
    return f"""---
base_model: {order.model}
library_name: peft
license: {licence}
tags: [lora]
---
# Adapter for {order.model}{f" ({order.suffix})" if order.suffix else ""}

A LoRA adapter trained on {train["rows"]} rows ({train["supervised_tokens"]} learnt tokens a pass) of `{order.training.name}`
(SHA-256 `{order.training.sha256}`). Prompts follow the template `{order.template}`.
`training_config.json` holds every setting, asked and applied; `fingerprint.json` the log-probabilities that a server must
reproduce; `lineage.json` where it comes from.

| metric | value |
|---|---|
{rows}

## Licence
{notice}
"""
