"""Items whose question stands in a passage that retrieval returned: such an arm was handed the exam's own page."""

from __future__ import annotations

import re

from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import PairedItems

FEWEST_WORDS = 5
"""A shorter question may stand in any page by chance."""
_WORD = re.compile(r"\w+")


def leaked_items(items: PairedItems) -> list[str]:
    """Ids of the items that some arm's passages hold word for word, in the items' order."""
    return [
        item_id for item_id in items.ids if any(_holds_question(arm.items[item_id]) for arm in items.arms)
    ]


def _holds_question(answer: ItemResult) -> bool:
    question = _words(answer.question)
    if not answer.sources or question.count(" ") < FEWEST_WORDS:
        return False
    return any(question in _words(str(source.get("text") or "")) for source in answer.sources)


def _words(text: str) -> str:
    """Lower-case words with a space before, between and after, so that only whole words are found."""
    return f" {' '.join(_WORD.findall(text.lower()))} "
