"""Gemma's RMS norm in a third of the calls, since at one token a step it is calls that cost, not numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm


class FusedNorm(nn.Module):
    """The same numbers, to the bit, as `Gemma3RMSNorm`: in float32, and scaled by one plus the weight before rounding."""

    scale: torch.Tensor

    def __init__(self, norm: Gemma3RMSNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("scale", 1.0 + norm.weight.detach().float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise over the last dimension."""
        return F.rms_norm(x.float(), self.scale.shape, self.scale, self.eps).to(x.dtype)


def fuse_norms(model: Any) -> None:
    """Put a `FusedNorm` in the place of every norm of a model that is only read."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Gemma3RMSNorm):
                setattr(parent, name, FusedNorm(child))
