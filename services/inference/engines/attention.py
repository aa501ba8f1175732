"""Attention over a `RowCache`, and the masks that say which column a token may see."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

NAME = "rows"


def masks(positions: torch.Tensor, width: int, window: int | None) -> dict[str, torch.Tensor]:
    """Boolean masks [row, 1, token, column] for tokens at `positions` ([row, token]), one for each kind of layer."""
    columns = torch.arange(width)
    own = positions[:, None, :, None]
    full = columns <= own
    sliding = full if window is None or width <= window else full & (columns > own - window)
    return {"full_attention": full, "sliding_attention": sliding}


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention with fewer key heads than query heads, without copying the keys.

    The query heads of a group stand behind each other as further tokens of their one key head. At one token a step,
    repeating keys and values would cost more than the attention itself.
    """
    rows, heads, tokens, dim = query.shape
    group = heads // key.shape[1]
    if group > 1:
        query = query.reshape(rows, heads // group, group * tokens, dim)
        attention_mask = attention_mask if tokens == 1 else attention_mask.repeat(1, 1, group, 1)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(rows, heads, tokens, dim).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_attention)
