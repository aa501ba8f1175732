"""The loss of supervised tokens equals the plain masked loss over all logits, gradients included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from services.trainer.recipe import loss as loss_module
from services.trainer.recipe.loss import IGNORED, install
from services.trainer.recipe.loss import supervised_loss as supervised_output

VOCABULARY, WIDTH = 301, 24


def plain_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softcap: float = 0.0
) -> torch.Tensor:
    logits = (hidden @ weight.t()).float()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return functional.cross_entropy(
        logits[:, :-1].reshape(-1, VOCABULARY), labels[:, 1:].reshape(-1), ignore_index=IGNORED
    )


def supervised_loss(*batch: torch.Tensor, **options: Any) -> torch.Tensor:
    loss = supervised_output(*batch, **options).loss
    assert loss is not None
    return loss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(3, 11, WIDTH, generator=generator)
    labels = torch.randint(VOCABULARY, (3, 11), generator=generator)
    labels[torch.rand(3, 11, generator=generator) < 0.5] = IGNORED
    return hidden, torch.randn(VOCABULARY, WIDTH, generator=generator), labels


@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("chunk", [1, 5, 512])
def test_value_and_gradient_equal_the_full_logits(
    batch: tuple[torch.Tensor, ...], softcap: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", chunk)
    hidden, weight, labels = batch
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    value = supervised_loss(ours, weight, labels, softcap=softcap)
    reference = plain_loss(theirs, weight, labels, softcap)
    (3 * value).backward()
    (3 * reference).backward()
    torch.testing.assert_close(value, reference, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_a_hopeless_token_is_counted_exactly(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    value, reference = (f(50 * hidden, weight, labels) for f in (supervised_loss, plain_loss))
    assert reference > 300  # nats: far below the smallest float32 probability
    torch.testing.assert_close(value, reference, rtol=1e-5, atol=1e-5)


def test_the_last_token_and_ignored_ones_do_not_count(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    value = supervised_loss(hidden, weight, labels)
    changed = hidden.clone()
    changed[:, -1] = 100.0
    unsupervised = functional.pad(labels[:, 1:], (0, 1), value=IGNORED) == IGNORED
    changed[unsupervised] = -100.0
    assert supervised_loss(changed, weight, labels) == value


def test_a_given_denominator_replaces_the_count(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    count = int((labels[:, 1:] != IGNORED).sum())
    whole = supervised_loss(hidden, weight, labels)
    halves = [
        supervised_loss(hidden[part], weight, labels[part], denominator=count) for part in ([0], [1, 2])
    ]
    torch.testing.assert_close(sum(halves), whole)


def test_nothing_supervised_gives_zero_and_no_gradient(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    hidden.requires_grad_()
    value = supervised_loss(hidden, weight, torch.full_like(labels, IGNORED))
    value.backward()
    assert value == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_bfloat16_is_close_to_float32(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    narrow = supervised_loss(hidden.bfloat16(), weight.bfloat16(), labels)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, supervised_loss(hidden, weight, labels), rtol=0.02, atol=0.02)


def test_an_installed_model_agrees_with_its_own_loss(tiny_gemma: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.float32).requires_grad_(False)
    ids = torch.arange(300, 340).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[:, :7] = IGNORED
    expected = model(input_ids=ids, attention_mask=mask, labels=labels)
    install(model)
    found = model(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
    assert "logits" not in found
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, expected.logits)


def test_an_output_matrix_with_an_adapter_is_refused(tiny_gemma: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.float32)
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(ValueError, match="without bias or adapter"):
        install(model)


def test_tokens_are_scored_one_by_one(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    logits = (hidden @ weight.t())[:, :-1]
    learnt = labels[:, 1:] != IGNORED
    expected = functional.cross_entropy(logits[learnt], labels[:, 1:][learnt], reduction="none")
    trained = supervised_output(hidden.clone().requires_grad_(), weight, labels)
    with torch.no_grad():
        scored = supervised_output(hidden, weight, labels)
    assert trained.hits is None
    for found in (trained, scored):
        torch.testing.assert_close(found.token_losses, expected, rtol=1e-5, atol=1e-5)
    assert scored.hits is not None
    assert scored.hits.equal(logits[learnt].argmax(dim=1) == labels[:, 1:][learnt])


def test_a_trained_output_matrix_gets_its_gradient(batch: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, labels = batch
    ours, plain = (weight.clone().requires_grad_() for _ in range(2))
    inputs = [hidden.clone().requires_grad_() for _ in range(2)]
    (3.0 * supervised_loss(inputs[0], ours, labels)).backward()
    logits = (inputs[1] @ plain.t())[:, :-1].flatten(0, 1)
    (3.0 * functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED)).backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-6)
