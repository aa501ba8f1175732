"""Answers in words, compared with a reference: exact match or shared words, and the text metrics beside."""

from __future__ import annotations

from services.evaluator.suites.base import Suite, load_file

SUITE = Suite("qa_accuracy", "answers in words, compared with a reference", load_file)
