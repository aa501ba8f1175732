"""Why items failed, and what to do about it: the next round of data, index or questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from model_training.contracts.comparisons import Finding
from model_training.contracts.evaluations import ItemResult
from services.comparator.domain.arms import RAG_PREFIX, Arm, PairedItems
from services.comparator.domain.words import items as count_of

SHOWN = 20
MOST_FUNCTIONS = 5
CUT_SHORT = frozenset({"timeout", "out_of_memory", "no_answer"})


def find(items: PairedItems, subject: str) -> list[Finding]:
    """What the failures come to, the largest first.

    Args:
        subject: the arm that would be deployed; what it got wrong is what matters.
    """
    if not items.ids:
        return []
    arm = next(arm for arm in items.arms if arm.name == subject)
    found = [
        *_retrieval(arm, items),
        *_lost(arm, items),
        *_forms(arm, items),
        *_functions(arm, items),
        *_suspects(items),
        *_cut_short(arm, items),
        *_unsolved(items),
    ]
    return sorted(found, key=lambda finding: -finding.count)


def _pick(items: PairedItems, wanted: Callable[[str], bool]) -> list[str]:
    return [item_id for item_id in items.ids if wanted(item_id)]


def _finding(kind: str, title: str, ids: Sequence[str], of: int, advice: str) -> list[Finding]:
    if not ids:
        return []
    fields = {
        "kind": kind,
        "title": title,
        "count": len(ids),
        "of": of,
        "items": list(ids[:SHOWN]),
        "advice": advice,
    }
    return [Finding.model_validate(fields)]


def _retrieval(arm: Arm, items: PairedItems) -> list[Finding]:
    """Failed although asked with passages: was the right page among them?"""
    if not arm.model.startswith(RAG_PREFIX):
        return []
    wrong = _pick(items, lambda i: not arm.items[i].correct)
    unfound = [i for i in wrong if not _was_found(arm.items[i])]
    unused = [i for i in wrong if _was_found(arm.items[i])]
    return [
        *_finding(
            "not_found",
            f"{arm.name}: the function asked about is in none of the passages",
            unfound,
            len(wrong),
            "Add pages on these functions to the index, or tune its search: mt rag tune.",
        ),
        *_finding(
            "not_used",
            f"{arm.name}: the right passage was there, and the answer is wrong all the same",
            unused,
            len(wrong),
            "More passages will not help. Train on rows that carry passages, or take a larger model.",
        ),
    ]


def _was_found(answer: ItemResult) -> bool:
    """Whether a passage names the function that the item is about."""
    name = answer.group.rpartition(".")[2]
    return any(name in f"{s.get('id')} {s.get('title')} {s.get('text')}" for s in answer.sources)


def _lost(arm: Arm, items: PairedItems) -> list[Finding]:
    """Items that the simplest arm got right and this one wrong."""
    simplest = items.arms[0]
    lost = _pick(items, lambda i: simplest.items[i].correct and not arm.items[i].correct)
    right = sum(answer.correct for answer in items.of(simplest))
    title = f"{arm.name} fails at what {simplest.name} can do"
    return _finding(
        "lost",
        title,
        lost,
        right,
        "Read these first: something that worked has been unlearnt or is distracted from.",
    )


def _forms(arm: Arm, items: PairedItems) -> list[Finding]:
    """The kind of question that fails most, where there are several."""
    forms = Counter(item.form for item in items.of(arm))
    wrong = Counter(item.form for item in items.of(arm) if not item.correct)
    if len(forms) < 2 or not wrong:
        return []
    form, _ = max(wrong.items(), key=lambda pair: (pair[1] / forms[pair[0]], pair[1]))
    ids = _pick(items, lambda i: arm.items[i].form == form and not arm.items[i].correct)
    title = f"{arm.name} fails most often at questions of the kind {form.replace('_', ' ')}"
    return _finding("form", title, ids, forms[form], f"Add training rows of the kind {form}.")


def _functions(arm: Arm, items: PairedItems) -> list[Finding]:
    """Functions that every question about fails."""
    asked = Counter(item.group for item in items.of(arm))
    wrong = Counter(item.group for item in items.of(arm) if not item.correct)
    never = [name for name, count in wrong.most_common() if count == asked[name] and count > 1][
        :MOST_FUNCTIONS
    ]
    return [
        finding
        for name in never
        for finding in _finding(
            "function",
            f"{arm.name} has no answer about {name}",
            _pick(items, lambda i, name=name: arm.items[i].group == name),
            asked[name],
            f"Add rows and pages about {name}; report.jsonl holds questions to answer and review.",
        )
    ]


def _suspects(items: PairedItems) -> list[Finding]:
    """All arms give one and the same answer, and it is not the reference: the reference may be wrong."""

    def suspect(item_id: str) -> bool:
        answers = [arm.items[item_id] for arm in items.arms]
        texts = {" ".join((answer.extracted or answer.output).split()).casefold() for answer in answers}
        return len(answers) > 1 and len(texts) == 1 and texts != {""} and not any(a.correct for a in answers)

    ids = _pick(items, suspect)
    advice = "Look at these references before you train on anything like them."
    return _finding(
        "suspect_reference", "All arms agree on an answer that counts as wrong", ids, len(items.ids), advice
    )


def _cut_short(arm: Arm, items: PairedItems) -> list[Finding]:
    ids = _pick(items, lambda i: arm.items[i].status in CUT_SHORT)
    title = f"{arm.name} gave no answer that could be run to its end"
    return _finding(
        "cut_short", title, ids, len(items.ids), "Allow longer answers (max_tokens) or more time."
    )


def _unsolved(items: PairedItems) -> list[Finding]:
    ids = _pick(items, lambda i: not any(arm.items[i].correct for arm in items.arms))
    title = f"No arm solves {count_of(len(ids))}"
    return _finding(
        "unsolved", title, ids, len(items.ids), "A larger model, or more of the library in data and index."
    )


PROPOSED = {
    "what_does": "What does `{name}` do?",
    "which_function": "Which function of {package} would you use for what `{name}` does? Describe the task and name it.",
    "write_call": "Write a call of `{name}` with arguments of your own, and say what it returns.",
}
"""Questions by kind. They are written from the function's name alone: an item's own words would teach to the test."""


def proposals(items: PairedItems, subject: str) -> list[dict[str, str]]:
    """Training questions about functions that failed, in the data loader's shape, each with an answer left to fill in."""
    if not items.ids:
        return []
    arm = next(arm for arm in items.arms if arm.name == subject)
    wrong = Counter((answer.group, answer.form) for answer in items.of(arm) if not answer.correct)
    return [
        {
            "question": PROPOSED.get(form, PROPOSED["what_does"]).format(
                name=name, package=name.partition(".")[0]
            ),
            "answer": "",
            "function": name,
            "kind": form,
            "why": f"{subject} failed at {count} question{'' if count == 1 else 's'} of this kind about it",
        }
        for (name, form), count in wrong.most_common()
    ]
