"""Grades one answer by its item's check and gives a status, a score and a reason in one sentence.

The expected value stays in this process. What the sandbox reports becomes a status here and nowhere else.
"""

from __future__ import annotations

import ast
import signal
from typing import Any

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import CallCheck, EvaluationItem, TextCheck, UnitTestCheck
from services.evaluator import calls, extraction, metrics, syntax
from services.evaluator.domain import Grade, read_expected, same, show
from services.evaluator.sandbox import codec
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.packages import PackageMissing
from services.evaluator.sandbox.pool import PackageBroken, Run, Sandbox

F1_PASSES = 0.5
"""Token F1 from which an answer in words counts as correct."""


class Grader:
    """Grades answers of every kind. Safe to use from several threads."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def isolation(self) -> str:
        """What keeps answers apart from the host, in one line."""
        return self._sandbox.isolation.text

    def grade(self, item: EvaluationItem, output: str) -> Grade:
        """The outcome of one output. Raises InvalidInput where the item itself cannot be graded."""
        check = item.check
        if isinstance(check, CallCheck):
            return self._grade_call(item.id, check, output)
        if isinstance(check, UnitTestCheck):
            return self._grade_function(item, check, output)
        return grade_text(item.answer, check, output)

    def _grade_call(self, item_id: str, check: CallCheck, output: str) -> Grade:
        try:
            expected = read_expected(check.expected)
            names = calls.bound_names([*check.imports, *check.setup], check.package)
        except (ValueError, SyntaxError) as error:
            raise InvalidInput(f"item {item_id!r}: {error}", param="check") from error
        found = extraction.extract_expression(output)
        if found.tree is None:
            return _no_answer(found.fault, found.extracted)
        names |= calls.bound_names(list(found.imports), check.package)
        refusal = calls.check_expression(found.tree, names, check.package, check.must_call)
        if refusal is not None:
            return Grade(refusal.status, refusal.reason, extracted=found.extracted)
        status, reason = self._run_call(item_id, check, found, expected)
        if status == "passed" and calls.copies_value(found.tree, expected, names):
            status, reason = "not_called", "the wanted value is written out in the answer"
        return Grade(status, reason, score=float(status == "passed"), extracted=found.extracted)

    def _run_call(self, item_id: str, check: CallCheck, found: extraction.Expression, expected: Any) -> Any:
        job = {
            "mode": "call",
            "imports": check.imports,
            "setup": check.setup,
            "own_imports": list(found.imports),
            "expression": found.text,
            "package": check.package,
            "must_call": check.must_call,
        }
        try:
            run = self._sandbox.ask(check.package, job, modules=_modules(check))
        except PackageMissing as error:
            hint = f"Install it where the evaluator runs: pip install {check.package}"
            raise InvalidInput(
                f"item {item_id!r}: the package `{error}` is not installed", param="check.package", hint=hint
            ) from error
        except PackageBroken as error:
            raise InvalidInput(
                f"item {item_id!r}: the package `{check.package}` cannot be imported: {error}",
                param="check.package",
            ) from error
        reply = run.reply
        if reply is None or "value" not in reply:
            return judge_failure(run, reply, self._sandbox.limits)
        try:
            value = codec.decode(reply["value"])
        except codec.Malformed:
            return _FORGED
        if not same(value, expected):
            return "wrong", f"the value is {show(value)}, wanted {show(expected)}"
        if reply.get("called") is False:
            wanted = f"`{check.must_call}`" if check.must_call else f"any function of `{check.package}`"
            return "not_called", f"the value is right, but {wanted} was not called"
        return "passed", "the value is as expected"

    def _grade_function(self, item: EvaluationItem, check: UnitTestCheck, output: str) -> Grade:
        if not output.strip():
            return _no_answer("the answer is empty", None)
        source = extraction.extract_source(output, check.prompt, check.entry_point)
        reference = extraction.extract_source(item.answer, check.prompt, check.entry_point).text
        scores = metrics.code_scores(source.text, reference)
        if source.fault:
            return Grade("error", source.fault, extracted=source.text, extraction_failed=True, scores=scores)
        answer = {"mode": "function", "source": source.text, "entry_point": check.entry_point}
        test = {"prompt": check.prompt, "test": check.test, "entry_point": check.entry_point}
        outcome = self._sandbox.verify(test, answer)
        reply = outcome.test.reply
        if reply is None or reply.get("verdict") == "broken":
            why = reply["text"] if reply else _ended(outcome.test)
            if outcome.answer.end != "ended" or outcome.test.end != "ended":
                return Grade(
                    "timeout", "the answer did not finish in time", extracted=source.text, scores=scores
                )
            raise InvalidInput(f"item {item.id!r}: its test cannot be run: {why}", param="check.test")
        status, reason = _verdict(reply, outcome.answer, self._sandbox.limits)
        return Grade(status, reason, score=float(status == "passed"), extracted=source.text, scores=scores)


def grade_text(reference: str, check: TextCheck, output: str) -> Grade:
    """Compare words: `exact` passes on any accepted answer, `f1` from F1_PASSES on with F1 as the score."""
    answer = extraction.extract_text(output)
    if not answer:
        return _no_answer("the answer is empty", None)
    references = [reference, *check.accept]
    scores = metrics.text_scores(answer, references)
    score = scores["exact_match"] if check.metric == "exact" else scores["f1"]
    if check.metric == "exact":
        is_right = score == 1.0
        reason = (
            "equals the reference"
            if is_right
            else "differs from the reference and from what else is accepted"
        )
    else:
        is_right = score >= F1_PASSES
        reason = f"shares words with the reference: F1 {score:.2f}, {F1_PASSES} passes"
    return Grade("passed" if is_right else "wrong", reason, score, answer, scores=scores)


_FORGED = ("forbidden", "the answer wrote on the grader's channel")


def _no_answer(reason: str, extracted: str | None) -> Grade:
    return Grade("no_answer", reason, extracted=extracted, extraction_failed=True)


def _modules(check: CallCheck) -> list[str]:
    """Modules of the package that the item's own import lines name; the fork-server imports them once."""
    found: list[str] = []
    for statement in check.imports:
        for node in syntax.parse(statement).body:
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.append(node.module)
    return [name for name in found if name.split(".")[0] == check.package]


def _verdict(reply: dict[str, Any], answer: Run, limits: Limits) -> Any:
    if reply["verdict"] == "passed":
        return "passed", "all assertions hold"
    if reply["verdict"] == "wrong":
        text = str(reply.get("text", ""))
        return "wrong", "an assertion fails" if text in (
            "",
            "AssertionError",
        ) else f"the test fails: {text[:200]}"
    inner = reply["reply"]
    return judge_failure(answer, None if "gone" in inner else inner, limits)


def judge_failure(run: Run, reply: dict[str, Any] | None, limits: Limits) -> Any:
    """Status and reason of a run that gave no value."""
    if run.is_forged or (reply is not None and "forged" in reply):
        return _FORGED
    if reply is None:
        return _without_reply(run, limits)
    if "memory" in reply or reply.get("raised") == "MemoryError":
        return "out_of_memory", f"the answer needs more than {limits.memory_mb} MB"
    if "too_long" in reply:
        return "forbidden", str(reply["too_long"])[:200]
    if "not_plain" in reply:
        return "wrong", f"the value is a `{str(reply['not_plain'])[:80]}`, which is no plain value"
    text = f"{reply.get('raised')}: {reply.get('text', '')}".rstrip(": ")
    return "error", text[:300]


def _without_reply(run: Run, limits: Limits) -> Any:
    if run.end == "wall":
        return "timeout", f"the answer did not end within {limits.wall_s:g} s"
    if run.end == "cpu" or (run.signal == signal.SIGKILL and run.cpu_s >= limits.cpu_s):
        return "timeout", f"the answer used {limits.cpu_s} s of processor time without an end"
    if run.signal == signal.SIGKILL and run.memory_kb > 0.8 * 1024 * limits.memory_mb:
        return "out_of_memory", f"the answer needs more than {limits.memory_mb} MB"
    if run.end == "disk":
        return "forbidden", f"the answer writes more than {limits.files} files or {limits.file_mb} MB"
    return "crashed", _ended(run)


def _ended(run: Run) -> str:
    if run.signal is not None:
        return f"the process ended by signal {run.signal} without a value"
    return f"the process ended itself (exit code {run.exit_code}) without a value"
