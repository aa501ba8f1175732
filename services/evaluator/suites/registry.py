"""Finds the suites: every module of this package, and every file of a folder, that defines `SUITE`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from services.evaluator import suites
from services.evaluator.suites.base import Suite, load_file


def find_suites(folder: Path | None = None) -> dict[str, Suite]:
    """All suites by name; one in `folder` replaces ours of the same name.

    Raises:
        InvalidInput: a file of `folder` cannot be imported or its `SUITE` is none.
    """
    modules = [
        importlib.import_module(f"{suites.__name__}.{found.name}")
        for found in pkgutil.iter_modules(suites.__path__)
    ]
    known = {module.SUITE.name: module.SUITE for module in modules if hasattr(module, "SUITE")}
    for path in sorted(folder.glob("*.py")) if folder is not None and folder.is_dir() else []:
        suite = _from_file(path)
        known[suite.name] = suite
    return known


def _from_file(path: Path) -> Suite:
    spec = importlib.util.spec_from_file_location(f"mt_suite_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInput(
            f"the suite {path} cannot be imported: {type(error).__name__}: {error}", param="suites"
        ) from error
    suite = getattr(module, "SUITE", None)
    if not isinstance(suite, Suite):
        hint = "It must define SUITE = Suite(name, description, load), from services.evaluator.suites.base."
        raise InvalidInput(f"the file {path} defines no suite", param="suites", hint=hint)
    return suite


def load_suite(
    spec: SuiteSpec, path: Path | None, known: dict[str, Suite] | None = None
) -> list[EvaluationItem]:
    """The items of one suite, in their own order. A name that is nobody's is one that the file's items carry.

    Args:
        spec: the suite that was asked for; its `limit` counts items, or questions where a suite asks each several times.
        path: the file behind `spec.file`; None for a suite that comes with a package.
        known: what `find_suites` found.

    Raises:
        InvalidInput: a suite without items, or broken rows (each named).
    """
    suite = (find_suites() if known is None else known).get(spec.name)
    items = suite.load(spec, path) if suite is not None else load_file(spec, path)
    is_multiplied = any(item.of is not None for item in items)
    return items if is_multiplied else items[: spec.limit]
