"""How near a text comes to its references: exact match, token F1, BLEU, chrF and ROUGE; and code to its reference.

BLEU and chrF are sacrebleu's, ROUGE is rouge-score's without its stemmer; exact match and F1 follow the definition of the
SQuAD evaluation. All values lie between 0 and 1. Differences below 0.05 in BLEU, ROUGE or chrF are no evidence.
"""

from __future__ import annotations

import ast
import re
import string
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from services.evaluator import syntax

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

_PUNCTUATION = str.maketrans("", "", string.punctuation)
MAX_CHARACTERS = 20_000
"""Longer answers are cut: ROUGE-L takes the product of the lengths."""

# The libraries are imported at first use: they bring nltk and scikit-learn along, which take seconds.


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, spaces collapsed.

    Text that consists of nothing else (an operator, say) is kept as it is: two answers are not equal for both being empty.
    """
    words = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()
    return " ".join(words) or " ".join(text.split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1.0 if the normalised answer is one of the normalised references, else 0.0."""
    return float(normalise(answer) in {normalise(reference) for reference in references})


def token_f1(answer: str, references: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over normalised words, for the nearest reference."""
    return max((_f1(normalise(answer).split(), normalise(one).split()) for one in references), default=0.0)


def _f1(answer: list[str], reference: list[str]) -> float:
    shared = sum((Counter(answer) & Counter(reference)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(answer), shared / len(reference)
    return 2 * precision * recall / (precision + recall)


def text_scores(answer: str, references: Sequence[str]) -> dict[str, float]:
    """All scores of one answer; each takes the nearest reference where the metric does not take several itself."""
    answer = answer[:MAX_CHARACTERS]
    rouge = [_rouge().score(reference[:MAX_CHARACTERS], answer) for reference in references]
    scores = {
        name: max(one[name].fmeasure for one in rouge) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")
    }
    return {
        "exact_match": exact_match(answer, references),
        "f1": token_f1(answer, references),
        "bleu": _bleu().sentence_score(answer, list(references)).score / 100,
        "chrf": _chrf().sentence_score(answer, list(references)).score / 100,
        "rouge1": scores["rouge1"],
        "rouge2": scores["rouge2"],
        "rouge_l": scores["rougeL"],
        "rouge_lsum": scores["rougeLsum"],
    }


def chrf(answer: str, reference: str) -> float:
    """sacrebleu's sentence chrF between 0 and 1."""
    return _chrf().sentence_score(answer[:MAX_CHARACTERS], [reference[:MAX_CHARACTERS]]).score / 100


def code_scores(answer: str, reference: str) -> dict[str, float]:
    """How near code comes to the reference's text, layout, comments and docstrings left aside, and whether it is Python.

    Code that does not parse is compared as it is. A way to see what failed answers look like; what counts is running them.
    """
    is_python, plain = _plain_code(answer)
    return {"syntax_valid": float(is_python), "code_chrf": chrf(plain, _plain_code(reference)[1])}


def _plain_code(text: str) -> tuple[bool, str]:
    text = text[:MAX_CHARACTERS]
    for candidate in (text, textwrap.dedent(text), f"def answer():\n{text}"):
        try:
            tree = syntax.parse(candidate)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(
                node, clean=False
            ):
                node.body = node.body[1:] or [ast.Pass()]
        try:
            return True, ast.unparse(tree).removeprefix("def answer():\n")
        except RecursionError:
            return True, text
    return False, text


def signatures() -> dict[str, str]:
    """What to quote with the scores: sacrebleu's own signatures, and how ROUGE is set."""
    text_scores("a", ["a"])  # sacrebleu knows its signature once it has scored something
    return {
        "bleu": str(_bleu().get_signature()),
        "chrf": str(_chrf().get_signature()),
        "rouge": "rouge-score, no stemmer",
    }


@cache
def _bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


@cache
def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@cache
def _rouge() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=False)
