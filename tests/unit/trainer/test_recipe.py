"""What a recipe may be asked for, on a tiny Gemma: 4 bits, DoRA, packing; what it does when memory or numbers run out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from libs.common.errors import JobFailure
from libs.common.training import plan as plan_module
from model_training.contracts.evaluations import EvaluationItem, TextCheck
from services.trainer.domain import DataFile, TrainOrder
from services.trainer.grading import grade_at
from services.trainer.recipe import run
from services.trainer.recipe.encode import Example
from services.trainer.recipe.generation import generation_metrics
from services.trainer.recipe.machine import MachineFacts
from services.trainer.recipe.trainer import AnswerTrainer

MakeOrder = Callable[..., TrainOrder]


def losses(context: Any) -> list[float]:
    return [values["loss"] for _, values in sorted(context.points.items()) if "loss" in values]


@pytest.mark.parametrize(
    "asked",
    [
        {"load_in_4bit": True},
        pytest.param({"use_dora": True}, marks=pytest.mark.slow),
        pytest.param({"lr_scheduler": "wsd", "neftune_noise_alpha": 5.0}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adamw", "gradient_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param(
            {"rank_pattern": {"q_proj": 2, "layers.0.mlp.up_proj": 6}, "alpha_pattern": {"q_proj": 8.0}},
            marks=pytest.mark.slow,
        ),
    ],
    ids="+".join,
)
def test_a_recipe_learns(
    asked: dict[str, Any], make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    context = make_context(tmp_path)
    result = run.train(context, tiny_order(epochs=2, **asked))
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    assert result["metrics"]["fingerprint_max_change"] > 0
    adapter = load_file(Path(result["directory"]) / "adapter_model.safetensors")
    assert any("magnitude" in name for name in adapter) == bool(asked.get("use_dora"))
    ranks = {name: len(value) for name, value in adapter.items() if "lora_A" in name}
    assert {rank for name, rank in ranks.items() if "q_proj" in name} == {2 if "rank_pattern" in asked else 4}
    assert {rank for name, rank in ranks.items() if "layers.0.mlp.up" in name} == {
        6 if "rank_pattern" in asked else 4
    }


def test_four_bits_are_held_in_four_bits(tiny_order: MakeOrder, tiny_gemma: Path) -> None:
    from services.trainer.recipe.backends import prepare

    config = run._config(tiny_order(load_in_4bit=True))
    made = plan_module.Planner(config, MachineFacts(False, False), plan_module.DataFacts(4, 0)).plan()
    model = prepare(tiny_gemma, made, config)
    layer = model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_packed_training_is_unpacked_training(
    attention: str, make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    contexts = [make_context(tmp_path / name) for name in ("padded", "packed")]
    for context, packing in zip(contexts, (False, True), strict=True):
        context.workdir.mkdir()
        order = tiny_order(packing=packing, attention=attention)
        result = run.train(context, order)
    assert losses(contexts[1]) == pytest.approx(losses(contexts[0]), abs=1e-4)
    assert next(text for kind, text in contexts[1].events if kind == "packing").startswith("Packing 4.0 rows")
    assert result["metrics"]["padding_share"] < 0.15


@pytest.mark.slow
def test_packed_rows_that_see_each_other_are_noticed(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.trainer.recipe import batches

    whole = batches._packed

    def without_borders(*batch: Any) -> dict[str, torch.Tensor]:
        packed = whole(*batch)
        return {**packed, "position_ids": torch.arange(packed["input_ids"].shape[1])[None]}

    monkeypatch.setattr(batches, "_packed", without_borders)
    with pytest.raises(JobFailure) as failure:
        run.train(make_context(tmp_path), tiny_order(packing=True))
    assert failure.value.error.code == "packing_leaks"


def refuse_above(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for so many tokens in a training pass, as PyTorch says it."""
    compute = AnswerTrainer.compute_loss

    def limited(self: AnswerTrainer, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        if inputs["input_ids"].numel() > tokens:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return compute(self, model, inputs, *more, **named)

    monkeypatch.setattr(AnswerTrainer, "compute_loss", limited)


def test_out_of_memory_halves_the_pass_and_keeps_the_step(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [make_context(tmp_path / name) for name in ("roomy", "cramped")]
    for context in contexts:
        context.workdir.mkdir()
        run.train(context, tiny_order())
        refuse_above(64, monkeypatch)
    assert losses(contexts[1]) == pytest.approx(losses(contexts[0]), rel=2e-5)
    told = [text for kind, text in contexts[1].events if kind == "memory"]
    assert [text.split(" tokens")[0].rsplit(" ", 1)[1] for text in told] == ["512", "256", "128", "64"]
    assert contexts[0].points[1]["tokens"] == contexts[1].points[1]["tokens"]


@pytest.mark.slow
def test_a_row_that_does_not_fit_fails_with_the_way_out(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_above(4, monkeypatch)
    with pytest.raises(JobFailure, match="one row of up to") as failure:
        run.train(make_context(tmp_path), tiny_order())
    assert failure.value.error.code == "out_of_memory"
    assert "max_length" in (failure.value.error.hint or "")


def test_what_cannot_fit_is_refused_with_the_numbers(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "machine_facts", lambda: MachineFacts(False, False, memory_bytes=1e8))
    with pytest.raises(JobFailure, match=r"hold about 0\.\d GB \(libraries 0\.6.*has 0\.1 GB") as failure:
        run.train(make_context(tmp_path), tiny_order())
    assert failure.value.error.code == "does_not_fit"


def poison(at: set[int], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Losses that are no number at these steps of the process; returns the learning rates of all."""
    rates: list[float] = []
    step = AnswerTrainer.training_step

    def training_step(self: AnswerTrainer, *batch: Any, **named: Any) -> Any:
        rates.append(self.optimizer.param_groups[0]["lr"])
        loss = step(self, *batch, **named)
        return loss * math.nan if len(rates) in at else loss

    monkeypatch.setattr(AnswerTrainer, "training_step", training_step)
    return rates


def test_divergence_goes_back_once_with_half_the_rate(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = poison({5}, monkeypatch)
    context = make_context(tmp_path)
    result = run.train(context, tiny_order(epochs=2, lr_scheduler="constant", warmup_ratio=0))
    (told,) = [text for kind, text in context.events if kind == "rollback"]
    assert "loss at step 5 is nan" in told
    assert "Going back to step 4 with a learning rate of 0.0025" in told
    assert rates[:5] == [5e-3] * 5
    assert rates[5:] == [2.5e-3] * (len(rates) - 5)
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    assert sorted(context.points) == list(range(1, 15))
    assert all(math.isfinite(loss) for loss in losses(context))


@pytest.mark.slow
def test_divergence_from_the_start_and_again_fails_with_the_reason(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison({1, 2}, monkeypatch)
    context = make_context(tmp_path)
    with pytest.raises(
        JobFailure, match="loss at step 1 is nan, and so it did at twice this learning rate"
    ) as failure:
        run.train(context, tiny_order())
    assert failure.value.error.code == "diverged"
    assert any("Going back to step 0" in text for _, text in context.events)


@pytest.mark.slow
def test_the_rows_that_are_learnt_worst_are_named(
    make_context: Any, write_rows: Callable[..., DataFile], tiny_rows: list[dict[str, Any]],
    tiny_order: MakeOrder, tmp_path: Path,
) -> None:  # fmt: skip

    wrong = {"question": "What is first of 1?", "answer": "banana!", "id": "the wrong one"}
    order = tiny_order(epochs=6, validation_fraction=0.0, early_stopping_patience=0)
    result = run.train(make_context(tmp_path), replace(order, training=write_rows([*tiny_rows, wrong])))
    hardest = result["data"]["train"]["hardest_rows"]
    assert hardest[0]["row"] == "the wrong one"
    assert hardest[0]["number"] == len(tiny_rows) + 1
    assert hardest[0]["first_loss"] > hardest[0]["last_loss"] > hardest[-1]["last_loss"] > 0
    stored = json.loads((Path(result["directory"]) / "data.json").read_text(encoding="utf-8"))
    assert stored["train"]["hardest_rows"] == hardest


def test_answers_are_generated_and_compared(make_context: Any, tiny_order: MakeOrder, tmp_path: Path) -> None:
    context = make_context(tmp_path)
    result = run.train(context, tiny_order(generate_rows=3, max_steps=2))
    assert [values["eval_exact_match"] for values in context.points.values() if "eval_loss" in values] == [
        0.0
    ]
    assert 0 < result["metrics"]["eval_token_accuracy"] <= 1
    assert result["metrics"]["eval_perplexity"] == pytest.approx(math.exp(result["metrics"]["eval_loss"]))


class FakeModel:
    """Answers the first prompt as the example does and the others with a word of its own."""

    device = "cpu"

    def __init__(self, answers: list[list[int]]) -> None:
        self._answers = answers

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> torch.Tensor:
        assert attention_mask[:, -1].all()  # padding stands on the left, or the model would go on from it
        width = max(map(len, self._answers))
        written = [answer + [0] * (width - len(answer)) for answer in self._answers]
        return torch.cat([input_ids, torch.tensor(written)], dim=1)


def test_generated_answers_are_judged(tiny_gemma: Path) -> None:
    from services.trainer.recipe.base import load_tokenizer

    tokenizer = load_tokenizer(tiny_gemma)

    def example(question: str, answer: str) -> Example:
        read, learnt = tokenizer.encode(question), tokenizer.encode(answer, add_special_tokens=False)
        return Example("", read + learnt, [-100] * len(read) + learnt)

    rows = [
        example("first of 1", "first(1)"),
        example("second of the two", "half(2)"),
        example("x", "no code"),
    ]
    answers = [
        tokenizer.encode(text, add_special_tokens=False) for text in (" first(1) ", "half(2", "no code")
    ]
    metrics = generation_metrics(FakeModel(answers), tokenizer, rows)
    assert metrics["eval_exact_match"] == pytest.approx(2 / 3)
    assert metrics["eval_parses"] == pytest.approx(1 / 2)
    assert "eval_pass_rate" not in metrics

    item = EvaluationItem(
        id="1", suite="s", form="f", question="q", answer="a", group="g", check=TextCheck(accept=[])
    )
    rows[1] = replace(rows[1], item=item)
    tried: list[Any] = []
    metrics = generation_metrics(
        FakeModel(answers), tokenizer, rows, pass_rate=lambda asked: tried.extend(asked) or 0.25
    )
    assert metrics["eval_pass_rate"] == 0.25
    assert tried == [(item, "half(2")]


CHECK = {"type": "call", "package": "toolz", "expected": "1"}


@pytest.fixture
def checked_order(tiny_order: MakeOrder, write_rows: Callable[..., DataFile]) -> TrainOrder:
    """Rows of which two of the three that are answered say how."""
    rows = [
        {"id": str(n), "question": f"What is {n}?", "answer": f"first([{n}])"}
        | ({"check": CHECK} if n else {})
        for n in range(3)
    ]
    order = tiny_order(generate_rows=3, max_steps=2, eval_steps=1)
    return replace(order, validation=write_rows(rows, "validation.jsonl"))


def test_answers_of_rows_with_a_check_are_tried(
    make_context: Any, checked_order: TrainOrder, tmp_path: Path
) -> None:
    tried: list[list[str]] = []

    def grade(answers: Sequence[tuple[EvaluationItem, str]]) -> list[bool]:
        tried.append([item.id for item, _ in answers])
        return [True, False]

    context = make_context(tmp_path)
    result = run.train(context, checked_order, grade=grade)
    rates = [values["eval_pass_rate"] for values in context.points.values() if "eval_loss" in values]
    assert rates == [0.5] * len(rates)
    assert tried == [["1", "2"]] * len(tried)
    assert len(tried) >= 3  # before training and after each step
    assert result["metrics"]["eval_pass_rate"] == 0.5
    said = [message for _, message in context.events if message.startswith("Validation loss")]
    assert all(message.endswith("; of the answers 0% exactly as wanted, 50% pass.") for message in said)


def test_an_evaluator_that_is_away_costs_the_pass_rate_and_no_more(
    make_context: Any, checked_order: TrainOrder, tmp_path: Path
) -> None:
    context = make_context(tmp_path)
    result = run.train(context, checked_order, grade=grade_at("http://127.0.0.1:9", "t"))
    told = [message for _, message in context.events if message.startswith("The pass rate is not measured.")]
    assert len(told) == 1
    assert "The evaluator at http://127.0.0.1:9 did not grade: " in told[0]
    assert "eval_pass_rate" not in result["metrics"]
    assert "eval_exact_match" in result["metrics"]


def test_a_pattern_that_names_no_layer_is_refused(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    with pytest.raises(
        JobFailure, match="rank_pattern: no layer with an adapter matches 'q_porj'"
    ) as failure:
        run.train(make_context(tmp_path), tiny_order(rank_pattern={"q_porj": 8}))
    assert "layers.0.self_attn.q_proj" in (failure.value.error.hint or "")


@pytest.mark.slow
def test_early_stopping_waits_for_its_warm_up(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    steps: list[int] = []
    for warmup in (0, 3):
        workdir = tmp_path / str(warmup)
        workdir.mkdir()
        asked = {
            "early_stopping_patience": 1,
            "early_stopping_min_delta": 5.0,
            "early_stopping_warmup": warmup,
        }
        steps.append(run.train(make_context(workdir), tiny_order(epochs=3, **asked))["steps"])
    assert steps == [4, 8]


def test_a_spike_that_stays_is_divergence_and_one_hard_batch_is_not() -> None:
    from transformers.trainer_callback import TrainerState

    from services.trainer.recipe.stopping import Divergence

    class Arguments:
        fp16 = False

    def watch(values: list[float]) -> None:
        watcher = Divergence()
        for step, loss in enumerate(values):
            watcher.on_log(Arguments(), TrainerState(global_step=step), None, {"loss": loss})  # pyright: ignore[reportArgumentType]

    watch([1.0] * 20 + [9.0, 9.0] + [1.0] * 5 + [9.0] + [0.5] * 20)
    with pytest.raises(JobFailure, match=r"above 3 times its usual 1\.000"):
        watch([1.0] * 20 + [9.0, 8.0, 7.0])
