"""Which models are in memory: finds a name in the catalogue or the database, loads it, and lets only a true one answer.

An adapter passes the gate when the served model gives the log-probabilities that its trainer stored. One without stored
numbers must at least answer otherwise than its base.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.common.artifacts import ArtifactStore
from libs.common.errors import NotFound
from libs.common.models import fingerprint
from libs.common.models.fingerprint import Fingerprint, FingerprintRow, GateReport
from libs.common.models.prompting import PromptTemplate, begin_id, encode, load_template
from libs.common.models.store import ModelStore
from model_training.config.catalogue import CATALOGUE, find_model
from services.inference.domain.generation import ModelRefused, ServedModel
from services.inference.ports import Engine
from services.inference.repository import ModelRepository, TunedModel

_log = logging.getLogger(__name__)
_PROBES = ("Question: What is a list in Python?\nAnswer: A list", "def add(a, b):\n    return a + b\n")


@dataclass(frozen=True)
class LoadedModel:
    """A model that can answer, and what is needed to ask it. `window` is in tokens."""

    name: str
    base: str
    tuned: bool
    tokenizer: Any
    template: PromptTemplate
    stop_ids: frozenset[int]
    window: int


@dataclass(frozen=True)
class Sources:
    """Where models come from."""

    store: ModelStore
    artifacts: ArtifactStore
    tuned: ModelRepository
    load_tokenizer: Callable[[Path], Any]


class LoadedModels:
    """The models in memory. Bases stay; of the tuned ones only the last used."""

    def __init__(self, sources: Sources, engine: Engine, *, max_tuned: int, max_window: int) -> None:
        self._sources = sources
        self._engine = engine
        self._max_tuned = max_tuned
        self._max_window = max_window
        self._bases: dict[str, LoadedModel] = {}
        self._tuned: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.RLock()

    def ensure(self, name: str) -> LoadedModel:
        """The model of a name, loaded if it is not. Blocks; call it from a thread.

        Raises:
            NotFound: no such model.
            ModelNotPrepared: the base is not on this machine.
            ModelRefused: the adapter is not what was trained, or does not fit.
        """
        with self._lock:
            if found := self._bases.get(name) or self._tuned.get(name):
                if found.tuned:
                    self._tuned.move_to_end(name)
                return found
            if name.startswith("model_"):
                return self._load_tuned(name)
            return self._load_base(name)

    def peek(self, name: str) -> LoadedModel | None:
        """The model if it is in memory."""
        return self._bases.get(name) or self._tuned.get(name)

    def _load_base(self, name: str) -> LoadedModel:
        entry = find_model(name)
        if entry is None:
            raise NotFound(
                f"There is no model {name!r}.", param="model", hint=f"Known bases: {', '.join(CATALOGUE)}."
            )
        if entry.name in self._bases:
            return self._bases[entry.name]
        path = self._sources.store.resolve(entry.name)
        tokenizer = self._sources.load_tokenizer(path)
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        self._engine.load(ServedModel(entry.name, entry.name, path), tokenizer.decode)
        template = load_template(entry.template, path)
        loaded = LoadedModel(
            name=entry.name,
            base=entry.name,
            tuned=False,
            tokenizer=tokenizer,
            template=template,
            stop_ids=_stop_ids(config, tokenizer, template),
            window=min(self._max_window, int(_text_config(config)["max_position_embeddings"])),
        )
        self._bases[entry.name] = loaded
        return loaded

    def _load_tuned(self, name: str) -> LoadedModel:
        row = self._sources.tuned.find(name)
        if row is None:
            raise NotFound(f"There is no model {name!r}.", param="model")
        if row.state == "refused":
            raise ModelRefused(f"{name} was refused: {(row.gate or {}).get('reason')}", param="model")
        base = self._load_base(row.base)
        adapter = self._sources.artifacts.path(row.artifact)
        self._make_room()
        served = ServedModel(name, base.name, self._sources.store.resolve(base.name), adapter)
        self._admit(row, base, served)
        loaded = LoadedModel(name, base.name, True, base.tokenizer, base.template, base.stop_ids, base.window)
        self._tuned[name] = loaded
        return loaded

    def _admit(self, row: TunedModel, base: LoadedModel, served: ServedModel) -> None:
        """Load the adapter and hold it to its fingerprint; a refusal is recorded and leaves nothing loaded."""
        try:
            self._engine.load(served, base.tokenizer.decode)
            report = self._gate(base, served)
        except ModelRefused as error:
            self._sources.tuned.record_gate(row.id, "refused", {"passed": False, "reason": error.detail})
            raise
        _log.info("gate of %s: %s", row.id, report)
        self._sources.tuned.record_gate(row.id, "servable" if report.passed else "refused", report.as_dict())
        if not report.passed:
            self._engine.unload(served.name)
            raise ModelRefused(f"{row.id} was refused: {report.reason}", param="model")

    def _gate(self, base: LoadedModel, served: ServedModel) -> GateReport:
        stored = Fingerprint.read(served.adapter_path) if served.adapter_path else None
        ids = [row.ids for row in stored.rows] if stored else [encode(base.tokenizer, t) for t in _PROBES]
        before = self._engine.score(base.name, ids)
        after = self._engine.score(served.name, ids)
        if stored is None:  # imported without numbers of its trainer: only "changes nothing" can be seen
            stored = Fingerprint(
                "unknown", [FingerprintRow(*row) for row in zip(ids, before, after, strict=True)]
            )
        return fingerprint.judge(stored, before, after)

    def _make_room(self) -> None:
        while len(self._tuned) >= self._max_tuned:
            idle = [name for name in self._tuned if not self._engine.busy(name)]
            name = next(iter(idle or self._tuned))  # the least recently used comes first
            self._tuned.pop(name)
            self._engine.unload(name)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a config that has one for images too."""
    return config.get("text_config") or config


def _stop_ids(config: dict[str, Any], tokenizer: Any, template: PromptTemplate) -> frozenset[int]:
    """Tokens that end an answer: the model's own, and the template's special ones, which leave no text to find."""
    ends = config.get("eos_token_id") or _text_config(config).get("eos_token_id") or []
    ids = set(ends if isinstance(ends, list) else [ends])
    special = [tokenizer.token_to_id(text) for text in (template.answer_end, *template.stop)]
    ids.update(token for token in special if token is not None and tokenizer.decode([token]) == "")
    return frozenset(ids - {begin_id(tokenizer)})
