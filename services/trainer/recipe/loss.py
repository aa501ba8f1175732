"""Cross entropy of supervised tokens only, for a vocabulary that is far larger than the model.

Gemma has 262,144 output columns, so projecting every token costs more than the rest of the model. Here only the hidden
states whose next token is supervised meet the output matrix, in chunks, and the gradient of the hidden states is computed
while a chunk's logits are still in the cache. Nothing of vocabulary width is kept for the backward pass. The softmax is
computed in float32 whatever the precision of the model.

The output matrix must be without bias or adapter, which LoRA on the linear layers of Gemma keeps; where it is trained
itself, its gradient comes with that of the hidden states. The loss of each supervised token is a by-product, so that rows
can be told apart without another pass.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput

IGNORED = -100
"""Label of a token that is read but not learnt."""

CHUNK_TOKENS = 512
"""Tokens projected at once; bounds memory at this many rows of logits."""
CPU_BLOCK_ROWS = 4
"""Rows whose softmax is taken at once on a CPU: their float32 logits stay in the cache, which halves the time."""
UNDERFLOW = 1e-30
"""Probability below which the logarithm is taken before the division, where it is exact."""


@dataclass
class SupervisedOutput(ModelOutput):
    """What a model with this loss returns: the mean, and in the order of the batch, for each supervised token, its loss in
    nats without a gradient and, where no gradient is asked for, whether it is the likeliest token."""

    loss: torch.Tensor | None = None
    token_losses: torch.Tensor | None = None
    hits: torch.Tensor | None = None


class SupervisedCrossEntropy(torch.autograd.Function):
    """Cross entropy of `hidden @ weight.T` against `targets`, with the gradient found in the forward pass.

    Shapes: hidden (tokens, width), weight (vocabulary, width), targets (tokens,). Returns the sum, a float32 scalar, and the
    loss of every token, (tokens,), which has no gradient. `softcap` bounds the logits by `softcap * tanh(logits / softcap)`,
    as Gemma 2 does; 0 leaves them alone.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wants_gradient = hidden.requires_grad
        gradient = torch.empty_like(hidden) if wants_gradient else hidden.new_empty(0)
        of_weight = torch.zeros_like(weight) if weight.requires_grad else weight.new_empty(0)
        for start, logits in _projected(hidden, weight):
            for rows in _blocks(start, len(logits), hidden.device):
                part = logits[rows.start - start : rows.stop - start]
                losses[rows] = _loss_and_gradient(part, targets[rows, None], softcap, wants_gradient)
            if wants_gradient:
                torch.mm(logits, weight, out=gradient[start : start + CHUNK_TOKENS])
            if weight.requires_grad:
                of_weight.addmm_(logits.t(), hidden[start : start + CHUNK_TOKENS])
        ctx.save_for_backward(gradient, of_weight)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        gradient, of_weight = ctx.saved_tensors
        scale = upstream[0].to(gradient.dtype)
        return gradient * scale, of_weight * scale if of_weight.numel() else None, None, None


def _projected(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits of `CHUNK_TOKENS` tokens at a time, with the number of the first one."""
    for start in range(0, len(hidden), CHUNK_TOKENS):
        yield start, hidden[start : start + CHUNK_TOKENS] @ weight.t()


def _blocks(start: int, count: int, device: torch.device) -> Iterator[slice]:
    """Rows whose softmax is taken at once, of `count` from `start` on."""
    block = CPU_BLOCK_ROWS if device.type == "cpu" else CHUNK_TOKENS
    for row in range(start, start + count, block):
        yield slice(row, min(row + block, start + count))


def _scores(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of tokens, and whether each is the likeliest one."""
    losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    hits = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
    for start, logits in _projected(hidden, weight):
        for rows in _blocks(start, len(logits), hidden.device):
            part = logits[rows.start - start : rows.stop - start]
            hits[rows] = part.argmax(dim=1) == targets[rows]
            losses[rows] = _loss_and_gradient(part, targets[rows, None], softcap, wants_gradient=False)
    return losses, hits


def _loss_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, softcap: float, wants_gradient: bool
) -> torch.Tensor:
    """Losses of a few rows; their logits are overwritten by the gradient of the losses' sum."""
    bounded = softcap * torch.tanh(logits.float() / softcap) if softcap else logits
    slope = torch.softmax(bounded, dim=1, dtype=torch.float32)
    chosen = slope.gather(1, targets)
    if chosen.min() > UNDERFLOW:
        losses = -chosen.log().squeeze(1)
    else:
        losses = functional.cross_entropy(bounded.float(), targets.squeeze(1), reduction="none")
    if wants_gradient:
        slope.scatter_(1, targets, chosen - 1)
        if softcap:
            slope *= 1 - (bounded / softcap).square_()
        logits.copy_(slope)
    return losses


def supervised_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    denominator: torch.Tensor | int | None = None,
    softcap: float = 0.0,
) -> SupervisedOutput:
    """Next-token loss over the supervised tokens of a batch.

    Args:
        hidden: last hidden states, (batch, tokens, width).
        labels: (batch, tokens); a label at position t is predicted from position t - 1, and `IGNORED` ones are skipped.
        denominator: what the summed loss is divided by; the supervised tokens of the whole optimiser step, so that
            accumulated batches equal one large batch. None divides by those of this batch.
    """
    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    supervised = targets != IGNORED
    selected = hidden[supervised].to(weight.dtype)
    count = torch.as_tensor(supervised.sum() if denominator is None else denominator, device=hidden.device)
    if not torch.is_grad_enabled():
        losses, hits = _scores(selected, weight, targets[supervised], softcap)
        return SupervisedOutput(losses.sum() / count.clamp(min=1), losses, hits)
    total, losses = SupervisedCrossEntropy.apply(selected, weight, targets[supervised], softcap)
    return SupervisedOutput(total / count.clamp(min=1), losses)


def install(model: PreTrainedModel) -> None:
    """Make `model(input_ids, labels=…)` return `supervised_loss` and compute no logits. Without labels it works as before.

    Raises:
        ValueError: the output matrix has an adapter or a bias; the loss would miss its gradient.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None:
        raise ValueError("the output matrix must be a linear layer without bias or adapter")
    weight = head.weight
    softcap = float(getattr(model.config.get_text_config(), "final_logit_softcapping", None) or 0.0)
    plain_forward = model.forward

    def forward(
        self: Any,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **options: Any,
    ) -> Any:
        if labels is None:
            return plain_forward(input_ids=input_ids, attention_mask=attention_mask, **options)
        options.pop("use_cache", None)
        body = self.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **options)
        hidden = body.last_hidden_state
        return supervised_loss(
            hidden, _computed(weight, hidden), labels, denominator=num_items_in_batch, softcap=softcap
        )

    model.forward = types.MethodType(forward, model)


def _computed(weight: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The output matrix as it is multiplied: one that is trained is held in float32 and computed with as autocast says."""
    kind = hidden.device.type
    if weight.requires_grad and torch.is_autocast_enabled(kind):
        return weight.to(torch.get_autocast_dtype(kind))
    return weight
