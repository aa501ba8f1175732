"""The directory that a finished job leaves: adapter, settings, metrics, fingerprint, lineage, a card for people."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from libs.common.models.prompting import PromptTemplate
from libs.common.models.store import LICENCE_FILES
from libs.common.training.plan import Plan
from services.trainer.domain import TrainOrder
from services.trainer.recipe.adapter import save_trained
from services.trainer.recipe.card import CardFacts, model_card
from services.trainer.recipe.curves import draw_curves
from services.trainer.recipe.export import GGUF, MERGED, complete
from services.trainer.recipe.fingerprint import Fingerprint

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Outcome:
    """What there is to say about a finished training run. `history` is the trainer's log, one dict a line."""

    metrics: dict[str, float]
    data: dict[str, Any]
    history: list[dict[str, float]]
    lineage: dict[str, Any]


def write_trained(
    model: PeftModel | PreTrainedModel,
    order: TrainOrder,
    template: PromptTemplate,
    directory: Path,
    state_dict: dict[str, Any] | None = None,
) -> None:
    """Write the adapter under the base's catalogue name, not under the path that it was loaded from; or the whole model in
    bfloat16, as a folder that loads by itself. A whole model that was trained in float32 is bfloat16 afterwards."""
    if isinstance(model, PeftModel):
        model.peft_config["default"].base_model_name_or_path = order.model
        save_trained(model, directory, state_dict)
        return
    if state_dict is None:
        model = model.to(torch.bfloat16)
    else:
        state_dict = {name: value.to(torch.bfloat16) for name, value in state_dict.items()}
    save_trained(model, directory, state_dict)
    complete(directory, Path(order.model_path), template)
    (directory / INDEX).unlink(missing_ok=True)  # of a base in several files; this is one


def write_documents(
    directory: Path,
    order: TrainOrder,
    plan: Plan,
    outcome: Outcome,
    fingerprint: Fingerprint,
    template: PromptTemplate,
) -> None:
    """Write everything beside the adapter and what was exported already."""
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
    best = outcome.lineage.get("best_step")
    draw_curves(directory, outcome.history, best, f"{order.model}: {order.suffix or order.training.name}")
    for name in LICENCE_FILES:
        if (source := Path(order.model_path) / name).is_file():
            shutil.copyfile(source, directory / name)
    exported = [kind for kind in (MERGED, GGUF) if (directory / kind).is_dir()]
    change = (fingerprint.mean_change, fingerprint.max_change)
    own = template.own.text if template.own else None
    facts = CardFacts(order, plan, outcome.metrics, outcome.data, outcome.lineage, change, exported, own)
    (directory / "README.md").write_text(model_card(facts), encoding="utf-8")


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
