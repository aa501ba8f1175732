"""The truth gate: an adapter may answer only when the engine gives the log-probabilities that its trainer recorded.

What the engine alone does to numbers is measured base against base and kept in a file, so that a restart can be compared
with the time before it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from libs.common.models import fingerprint
from libs.common.models.fingerprint import Fingerprint, FingerprintRow, GateReport, mean_distance
from libs.common.models.prompting import encode
from services.inference import metrics
from services.inference.domain.generation import ModelRefused, ServedModel
from services.inference.ports import Engine

_log = logging.getLogger(__name__)
PROBES = (
    "Question: What is a list in Python?\nAnswer: A list",
    "def add(a, b):\n    return a + b\n",
    "The capital of France is Paris, and the capital of Italy is",
    "for index, item in enumerate(items):\n    print(index, item)\n",
)
_DRIFT = 0.02
"""Nats a token by which a base may answer otherwise than the last time it was measured before it is said."""


@dataclass(frozen=True)
class Calibration:
    """A base measured against itself. `noise` and `drift` are mean distances in nats a token.

    `drift` is the distance from the last calibration of this base on this engine; None for the first.
    """

    engine: str
    base: str
    noise: float
    drift: float | None
    scores: list[list[float]]


class TruthGate:
    """Measures bases, and adapters against their fingerprints."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._file = file
        self._calibrations: dict[str, Calibration] = {}

    def calibrate(self, base: str, tokenizer: Any) -> Calibration:
        """Read the probes twice, once alone and once in company, and compare with what was stored.

        Raises:
            ModelRefused: the engine reads texts otherwise than our tokenizer does.
        """
        self._check_tokenizer(base, tokenizer)
        ids = [encode(tokenizer, text) for text in PROBES]
        alone = self._engine.score(base, ids)
        with ThreadPoolExecutor(len(ids)) as pool:
            company = [
                rows[0] for rows in pool.map(self._engine.score, [base] * len(ids), [[row] for row in ids])
            ]
        stored = self._stored()
        engine = self._engine.traits.label
        before = stored.get(f"{engine}/{base}")
        same_texts = before is not None and [len(row) for row in before["scores"]] == [
            len(row) for row in alone
        ]
        drift = mean_distance(before["scores"], alone) if before is not None and same_texts else None
        calibration = Calibration(engine, base, mean_distance(alone, company), drift, alone)
        if drift is not None and drift > _DRIFT + 3 * calibration.noise:
            _log.warning("%s on %s answers otherwise than before: %.4f nats a token", base, engine, drift)
        self._calibrations[base] = calibration
        self._store(stored | {f"{engine}/{base}": asdict(calibration)})
        _log.info("calibrated %s on %s: noise %.5f, drift %s", base, engine, calibration.noise, drift)
        return calibration

    def judge(self, served: ServedModel, tokenizer: Any) -> GateReport:
        """Compare a loaded adapter with its fingerprint. One without (an imported one) must at least change something."""
        stored = Fingerprint.read(served.adapter_path) if served.adapter_path else None
        ids = [row.ids for row in stored.rows] if stored else [encode(tokenizer, text) for text in PROBES]
        before = self._engine.score(served.base, ids)
        after = self._engine.score(served.name, ids)
        if stored is None:
            rows = [FingerprintRow(*row) for row in zip(ids, before, after, strict=True)]
            stored = Fingerprint("unknown", rows)
        report = fingerprint.judge(stored, before, after, self._calibrations[served.base].noise)
        metrics.GATE.labels(report.verdict).inc()
        return report

    def _check_tokenizer(self, base: str, tokenizer: Any) -> None:
        for text in PROBES:
            theirs = self._engine.tokenize(base, text)
            ours = list(tokenizer.encode(text, add_special_tokens=False).ids)
            if theirs is not None and theirs != ours:
                raise ModelRefused(
                    f"The engine of {base} reads {text!r} as {_start(theirs)}, and this platform as {_start(ours)}.",
                    param="model",
                    hint="It was started with another model or tokenizer.",
                )

    def _stored(self) -> dict[str, Any]:
        try:
            return json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _store(self, calibrations: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        staging = self._file.with_suffix(".new")
        staging.write_text(json.dumps(calibrations) + "\n", encoding="utf-8")
        staging.replace(self._file)


def _start(ids: Sequence[int]) -> str:
    return f"{list(ids[:6])}"
