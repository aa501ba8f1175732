"""Training rows of one package: every function that is asked about, in several forms, with examples not held out."""

from __future__ import annotations

from collections.abc import Iterator

from model_training.contracts.evaluations import CallCheck
from model_training.datasets.package.questions import call_check, code_question, digest, facts, fits
from model_training.datasets.package.records import Example
from model_training.datasets.package.selection import Chosen, Selection
from model_training.datasets.package.wording import MAX_QUESTION_WORDS, TRAINING, home_of, tell
from model_training.datasets.rows import TrainingRow

ORDER = (
    "write_call", "which_function", "fit_need", "what_does", "write_call", "read_signature", "fit_need", "find_arguments",
    "use_object", "default_value", "which_function", "parameter_name", "use_object", "write_call", "what_returns",
    "which_module", "find_arguments", "default_value", "fit_need", "parameter_name", "what_does", "use_object", "write_call",
    "what_returns", "which_function", "write_call", "fit_need", "default_value", "read_signature", "write_call",
    "default_value", "use_object", "use_object", "default_value",
)  # fmt: skip
"""Which form comes next for a function; what does not fit is passed over."""
VALIDATION_SHARE = 0.05


def training_rows(selection: Selection, asked: set[str], count: int) -> list[TrainingRow]:
    """Up to `count` rows and some for validation: one a function in turn, functions of `asked` before all others.

    Rows differ in their questions. Validation rows come from the same functions with examples of their own, and those
    that ask for code say how an answer is tried.
    """
    first = [_rows(one, selection) for one in selection.functions if one.function.qualified in asked]
    others = [_rows(one, selection) for one in selection.functions if one.function.qualified not in asked]
    extra = max(2, round(count * VALIDATION_SHARE)) if count else 0
    rows: list[TrainingRow] = []
    seen: set[str] = set()
    for queue in (_in_turn(first), _in_turn(others)):
        for row in queue:
            if len(rows) >= count + extra:
                break
            if row.question not in seen:
                seen.add(row.question)
                rows.append(row)
    # Where there are fewer rows than asked for, validation takes its share of what there is.
    train = min(count, len(rows) - min(extra, round(len(rows) * VALIDATION_SHARE)))
    return [
        row.model_copy(update={"check": None} if place < train else {"split": "validation"})
        for place, row in enumerate(rows)
    ]


def _in_turn(queues: list[Iterator[TrainingRow]]) -> Iterator[TrainingRow]:
    """The first row of each, then the second of each, until all are empty."""
    while queues:
        left: list[Iterator[TrainingRow]] = []
        for queue in queues:
            row = next(queue, None)
            if row is not None:
                yield row
                left.append(queue)
        queues = left


def _rows(chosen: Chosen, selection: Selection) -> Iterator[TrainingRow]:
    """All rows about one function, the most useful first."""
    examples = _spread(chosen.shown)
    used: dict[str, int] = {}
    for form in ORDER:
        turn = used.get(form, 0)
        used[form] = turn + 1
        if form in {"write_call", "find_arguments", "fit_need", "use_object", "what_returns"}:
            row = _code_row(chosen, selection, form, turn, examples)
        else:
            row = _fact_row(chosen, selection, form, turn)
        if row is not None and len(row.question.split()) <= MAX_QUESTION_WORDS:
            yield row


def _spread(examples: tuple[Example, ...]) -> list[Example]:
    """The package's own examples and varied ones, in turn."""
    own = [one for one in examples if one.kind != "varied_example"]
    varied = [one for one in examples if one.kind == "varied_example"]
    mixed: list[Example] = []
    while own or varied:
        mixed += [queue.pop(0) for queue in (own, varied) if queue]
    return mixed


def _code_row(
    chosen: Chosen, selection: Selection, form: str, turn: int, examples: list[Example]
) -> TrainingRow | None:
    """A row from the next example that fits the form; each example is used once."""
    function = chosen.function
    for index, example in enumerate(examples):
        told = tell(example, function)
        if told is None or not fits(form, chosen, told):
            continue
        examples.pop(index)
        if form == "what_returns":
            words = {"home": home_of(function), "name": function.name, "expression": example.expression}
            question, answer = TRAINING[form][turn % len(TRAINING[form])].format(**words), example.value
        else:
            question = code_question(TRAINING[form], turn + len(function.name), chosen, example, told)
            answer = example.expression
        if form == "what_returns":
            return _row(chosen, form, "qa", question, answer, example)
        check = call_check(selection.package, function, example, form)
        return _row(chosen, form, "code", question, answer, example, check)
    return None


def _fact_row(chosen: Chosen, selection: Selection, form: str, turn: int) -> TrainingRow | None:
    function = chosen.function
    if form == "read_signature":
        if function.parameters is None:
            return None
        words = {"name": function.name, "home": home_of(function)}
        return _row(
            chosen,
            form,
            "qa",
            TRAINING[form][(turn + len(function.name)) % 2].format(**words),
            function.signature,
        )
    known = list(facts(selection, chosen, form))
    if form in {"default_value", "parameter_name"}:
        if turn >= len(known):
            return None
        fact = known[turn]
    elif not known:
        return None
    else:
        fact = known[0]
    question = TRAINING[form][(turn + len(function.name)) % len(TRAINING[form])].format(**fact.words)
    return _row(chosen, form, "qa", question, fact.answer)


def _row(
    chosen: Chosen,
    form: str,
    kind: str,
    question: str,
    answer: str,
    example: Example | None = None,
    check: CallCheck | None = None,
) -> TrainingRow:
    function = chosen.function
    return TrainingRow(
        id=f"{function.qualified}-{form}-{digest(question)}", kind="code" if kind == "code" else "qa", form=form,
        question=question, answer=answer, function=function.qualified, source=example.source if example else function.source,
        check=check,
    )  # fmt: skip
