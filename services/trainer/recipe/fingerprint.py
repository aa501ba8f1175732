"""Log-probabilities of fixed texts under the base and under the adapter: what a server must reproduce before it answers.

Computed as it is served: bfloat16 weights, the adapter merged into them, one text at a time without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from libs.common.models.prompting import PromptTemplate, encode_training
from services.trainer.recipe.base import load_served
from services.trainer.recipe.encode import Example

MAX_TOKENS = 128
TRAINED_TEXTS = 4
"""Training rows among the texts; there the adapter moves most."""

FIXED_QUESTIONS = (
    ("Write a Python expression that reverses the list [1, 2, 3].", "list(reversed([1, 2, 3]))"),
    ("What does the function len do?", "It returns the number of items of an object."),
    ("Which method of str removes white space at both ends?", "strip"),
    ("What is the capital of France?", "Paris"),
)


@dataclass(frozen=True)
class FingerprintText:
    """One text. `base[i]` and `adapter[i]` are the log-probabilities of `ids[i + 1]` after `ids[: i + 1]`, in nats."""

    ids: list[int]
    base: list[float]
    adapter: list[float]


@dataclass(frozen=True)
class Fingerprint:
    """The texts, and how they were computed. `mean_change` and `max_change` are absolute differences, base to adapter."""

    precision: str
    merged: bool
    texts: list[FingerprintText]

    @property
    def mean_change(self) -> float:
        """Mean over all tokens of how far the adapter moves a log-probability."""
        changes = self._changes()
        return sum(changes) / max(len(changes), 1)

    @property
    def max_change(self) -> float:
        """The largest such move."""
        return max(self._changes(), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """As it lies in `fingerprint.json`."""
        summary = {"mean_change": self.mean_change, "max_change": self.max_change}
        return {"version": 1, **summary, **asdict(self)}

    def _changes(self) -> list[float]:
        return [abs(a - b) for text in self.texts for a, b in zip(text.adapter, text.base, strict=True)]


def fingerprint_ids(tokenizer: Any, template: PromptTemplate, examples: Sequence[Example]) -> list[list[int]]:
    """Token ids of the fixed questions and of a few training rows, spread over the file."""
    texts = [encode_training(tokenizer, template, _turns(*pair)).ids for pair in FIXED_QUESTIONS]
    stride = max(1, len(examples) // TRAINED_TEXTS)
    texts += [example.ids for example in examples[::stride][:TRAINED_TEXTS]]
    return [ids[:MAX_TOKENS] for ids in texts if len(ids) > 1]


@torch.no_grad()
def take_fingerprint(base: Path, adapter: Path, texts: Sequence[list[int]], device: str) -> Fingerprint:
    """Measure a base, and the adapter or the model that lies in a directory, both read anew: what is measured is what was
    saved, on the base that is served, whatever precision it was trained in."""
    model = load_served(base, device).eval()
    before = [_log_probabilities(model, ids) for ids in texts]
    if (adapter / "adapter_config.json").is_file():
        tuned = PeftModel.from_pretrained(model, str(adapter)).eval()
        tuned.merge_adapter()
        model = tuned.get_base_model()
    else:
        model = load_served(adapter, device).eval()
    after = [_log_probabilities(model, ids) for ids in texts]
    rows = [FingerprintText(ids, b, a) for ids, b, a in zip(texts, before, after, strict=True)]
    return Fingerprint("bfloat16", True, rows)


def _log_probabilities(model: Any, ids: list[int]) -> list[float]:
    inputs = torch.tensor([ids], device=model.device)
    logits = model(input_ids=inputs, use_cache=False).logits[0, :-1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, inputs[0, 1:, None]).squeeze(1)
    return [round(value, 5) for value in chosen.tolist()]


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
