"""The card and the curves of an artifact: read by the hub's own reader, and there for every kind of history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from libs.common.training.plan import DataFacts, MachineFacts, Planner
from model_training.config.training_config import TrainingConfig
from model_training.contracts.fine_tuning import EffectiveSetting
from services.trainer.domain import TrainOrder
from services.trainer.recipe.card import CardFacts, model_card
from services.trainer.recipe.curves import draw_curves

HISTORY = [
    {"step": step, "loss": 3.0 / step + 0.5, "learning_rate": 2e-4, "grad_norm": 1.0}
    for step in range(1, 100)
]


@pytest.fixture
def facts(tiny_order: Callable[..., TrainOrder]) -> CardFacts:
    order = replace(tiny_order(lora_r=24), suffix="demo")
    plan = Planner(TrainingConfig(**order.config), MachineFacts(False, True), DataFacts(90, 10)).plan()
    changed = [EffectiveSetting(field="packing", asked=True, applied=False, reason="The CPU does not pack.")]
    counts = {
        "rows": 90,
        "tokens": 4500,
        "supervised_tokens": 1800,
        "longest": 80,
        "dropped": 1,
        "truncated": 0,
    }
    return CardFacts(
        order,
        replace(plan, effective=changed),
        {"eval_loss_before": 3.0, "eval_loss": 1.0, "train_loss": 0.9, "tokens": 9000.0},
        {"train": counts, "validation": counts},
        {"best_step": 20, "versions": {"peft": "0.21"}},
        (0.5, 4.0),
        ("merged", "gguf"),
    )


def test_the_hub_reads_the_card(facts: CardFacts) -> None:
    card = ModelCard(model_card(facts))
    data = card.data.to_dict()
    assert data["base_model"] == "google/gemma-3-270m"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "text-generation"
    assert (data["license"], data["license_name"]) == ("gemma", "gemma")
    assert data["license_link"] == "https://ai.google.dev/gemma/terms"
    assert "datasets" not in data
    assert "lora" in data["tags"]


def test_the_card_tells_what_a_reader_needs(facts: CardFacts) -> None:
    text = model_card(facts)
    assert "| validation perplexity | 20.09 | **2.72** |" in text
    assert facts.order.training.sha256 in text
    assert "| packing | `true` | `false` | The CPU does not pack. |" in text
    assert "--max-lora-rank 32" in text  # vLLM takes no 24
    assert "`gguf/`" in text
    assert "Gemma Terms of Use" in text
    assert "None" not in text


def test_dora_is_not_offered_to_vllm(facts: CardFacts) -> None:
    order = replace(facts.order, config={**facts.order.config, "use_dora": True})
    assert "--enable-lora" not in model_card(replace(facts, order=order))


@pytest.mark.parametrize("checks", [[], [{"step": 40, "eval_loss": 1.1}, {"step": 80, "eval_loss": 1.0}]])
def test_curves_are_drawn_the_same_each_time(tmp_path: Path, checks: list[dict[str, float]]) -> None:
    drawn: list[list[bytes]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        draw_curves(tmp_path / name, HISTORY + checks, 80, "demo")
        drawn.append([(tmp_path / name / f"curves.{kind}").read_bytes() for kind in ("png", "svg")])
    assert drawn[0] == drawn[1]
    assert drawn[0][0].startswith(b"\x89PNG")
    assert b"<svg" in drawn[0][1]


def test_curves_of_a_run_that_reported_nothing(tmp_path: Path) -> None:
    draw_curves(tmp_path, [], None, "empty")
    assert (tmp_path / "curves.png").is_file()
