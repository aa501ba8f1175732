"""The adapter registry: which models are in memory, loaded on demand, and only those let answer that are what was trained.

Adapters come from the artifact store alone. What the engine could not apply is refused before it is loaded; what it loaded
must pass the gate, again after each start of the engine.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from libs.common.artifacts import ArtifactStore
from libs.common.errors import InvalidInput, NotFound, Overloaded, PlatformError
from libs.common.models.prompting import PromptTemplate, begin_id, load_template
from libs.common.models.store import ModelStore
from model_training.config.catalogue import CATALOGUE, find_model
from services.inference import metrics
from services.inference.domain.adapters import AdapterFacts, BaseFacts, why_unfit
from services.inference.domain.generation import ModelRefused, ServedModel
from services.inference.gate import TruthGate
from services.inference.ports import Engine
from services.inference.repository import ModelRepository, TunedModel

_log = logging.getLogger(__name__)


class NoRoom(Overloaded):
    """Every place for a tuned model is taken by one in use"""

    code = "no_room_for_model"


@dataclass(frozen=True)
class LoadedModel:
    """A model that can answer, and what is needed to ask it. `window` is in tokens; `version` is the adapter's artifact."""

    name: str
    base: str
    tuned: bool
    tokenizer: Any
    template: PromptTemplate
    stop_ids: frozenset[int]
    window: int
    version: str = ""
    read_at: float = 0.0
    """When the database last confirmed a tuned model, on the monotonic clock."""


@dataclass(frozen=True)
class Sources:
    """Where models come from, and how their files are read."""

    store: ModelStore
    artifacts: ArtifactStore
    tuned: ModelRepository
    load_tokenizer: Callable[[Path], Any]
    read_base: Callable[[str, Path], BaseFacts]
    read_adapter: Callable[[str, Path], AdapterFacts]


@dataclass(frozen=True)
class Room:
    """How much may be in memory. `recheck_s` is the age at which a tuned model is looked up again."""

    tuned: int
    window: int
    recheck_s: float = 5.0


class LoadedModels:
    """The models in memory. Bases stay; of the tuned ones the pinned, those in use, and the last used."""

    def __init__(self, sources: Sources, engine: Engine, gate: TruthGate, room: Room) -> None:
        self._sources = sources
        self._engine = engine
        self._gate = gate
        self._room = room
        self._bases: dict[str, LoadedModel] = {}
        self._facts: dict[str, BaseFacts] = {}
        self._tuned: OrderedDict[str, LoadedModel] = OrderedDict()
        self._pinned: set[str] = set()
        self._boot = engine.boot
        self._restored_at = engine.boot
        """The engine's start after which the pinned models were loaded and checked."""
        self._lock = threading.RLock()

    def ensure(self, name: str) -> LoadedModel:
        """The model of a name, loaded and checked if it is not. Blocks; call it from a thread.

        Raises:
            NotFound: no such model, or not any more.
            ModelNotPrepared: the base is not on this machine.
            ModelRefused: the adapter is not what was trained, or does not fit.
            NoRoom: all places are taken by models in use.
        """
        with self._lock:
            self._follow_engine()
            if not name.startswith("model_"):
                return self._bases.get(name) or self._load_base(name)
            row = self._sources.tuned.find(name)
            if row is None:
                self._forget(name)
                raise NotFound(f"There is no model {name!r}.", param="model")
            found = self._tuned.get(name)
            if found is None or found.version != row.artifact:
                self._forget(name)
                return self._load_tuned(row)
            self._tuned[name] = replace(found, read_at=time.monotonic())
            self._tuned.move_to_end(name)
            return self._tuned[name]

    def peek(self, name: str) -> LoadedModel | None:
        """The model if it is in memory and was looked up lately; takes no time."""
        if self._engine.boot != self._boot:
            return None
        found = self._bases.get(name) or self._tuned.get(name)
        if found is None or not found.tuned:
            return found
        return found if time.monotonic() - found.read_at < self._room.recheck_s else None

    def pin(self, name: str) -> None:
        """Load a tuned model and keep it. Raises as `ensure`, and:

        Raises:
            InvalidInput: one place would not be left for the others.
        """
        with self._lock:
            if name not in self._pinned and len(self._pinned) >= self._room.tuned - 1:
                raise InvalidInput(
                    f"{len(self._pinned)} of {self._room.tuned} places are pinned; one must stay free.",
                    param="model",
                    hint="Unpin another, or set MT_INFERENCE_TUNED_MODELS.",
                )
            self.ensure(name)
            self._pinned.add(name)
            self._sources.tuned.set_pinned(name, True)

    def unpin(self, name: str) -> None:
        """Let a tuned model go when its place is needed."""
        with self._lock:
            self._pinned.discard(name)
            self._sources.tuned.set_pinned(name, False)

    def restore_pins(self) -> None:
        """Load and check what was pinned before this process or its engine began, as far as there is room; one that cannot
        be served is said."""
        boot = self._engine.boot
        for name in self._sources.tuned.pinned():
            with self._lock:
                if name in self._pinned or len(self._pinned) >= self._room.tuned - 1:
                    continue
                try:
                    self.ensure(name)
                except PlatformError as error:
                    _log.error("the pinned model %s cannot be served: %s", name, error.detail)
                else:
                    self._pinned.add(name)
        self._restored_at = boot

    def unload(self, name: str) -> None:
        """Take a tuned model out of memory. Its running requests end with an error.

        Raises:
            NotFound: it is not in memory.
        """
        with self._lock:
            if name not in self._tuned:
                raise NotFound(f"{name!r} is not in memory.", param="model")
            self._forget(name)

    def is_loaded(self, name: str) -> bool:
        return name in self._tuned

    def is_pinned(self, name: str) -> bool:
        return name in self._pinned

    @property
    def behind_engine(self) -> bool:
        """Whether the engine was started anew since its bases and the pinned models were checked."""
        return not self._engine.boot == self._boot == self._restored_at

    def _follow_engine(self) -> None:
        """After a start of the engine nothing is believed: bases are measured again, adapters loaded and checked again, the
        pinned ones by `restore_pins`, the others when they are asked for."""
        boot = self._engine.boot
        if boot == self._boot:
            return
        self._pinned.clear()
        for name in list(self._tuned):
            self._drop(name)
        for base in self._bases.values():
            path = self._sources.store.resolve(base.name)
            self._engine.load(ServedModel(base.name, base.name, path), base.tokenizer.decode)
            self._gate.calibrate(base.name, base.tokenizer)
        self._boot = boot

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
        self._gate.calibrate(entry.name, tokenizer)
        self._boot = self._engine.boot
        template = load_template(entry.template, path)
        loaded = LoadedModel(
            name=entry.name,
            base=entry.name,
            tuned=False,
            tokenizer=tokenizer,
            template=template,
            stop_ids=_stop_ids(config, tokenizer, template),
            window=min(self._room.window, int(_text_config(config)["max_position_embeddings"])),
        )
        self._facts[entry.name] = self._sources.read_base(entry.name, path)
        self._bases[entry.name] = loaded
        return loaded

    def _load_tuned(self, row: TunedModel) -> LoadedModel:
        gate = row.gate or {}
        final = gate.get("code") == "whole_model" or gate.get("engine") == self._engine.traits.label
        if row.state == "refused" and final:
            raise ModelRefused(f"{row.id} was refused: {gate.get('reason')}", param="model")
        base = self._load_base(row.base)
        adapter = self._sources.artifacts.path(row.artifact)
        path = self._sources.store.resolve(base.name)
        self._make_room()
        self._admit(row, base, ServedModel(row.id, base.name, path, adapter, row.artifact))
        loaded = replace(base, name=row.id, tuned=True, version=row.artifact, read_at=time.monotonic())
        self._tuned[row.id] = loaded
        return loaded

    def _admit(self, row: TunedModel, base: LoadedModel, served: ServedModel) -> None:
        """Load the adapter and hold it to its fingerprint; a refusal is recorded and leaves nothing loaded."""
        label = {"engine": self._engine.traits.label}
        try:
            self._refuse_unfit(served)
            self._engine.load(served, base.tokenizer.decode)
        except ModelRefused as error:
            metrics.GATE.labels("unfit").inc()
            gate = {"passed": False, "code": "unfit", "reason": error.detail, **label}
            self._sources.tuned.record_gate(row.id, "refused", gate)
            raise
        try:
            report = self._gate.judge(served, base.tokenizer)
        except BaseException:
            self._engine.unload(served.name)
            raise
        _log.info("gate of %s: %s", row.id, report)
        state = "servable" if report.passed else "refused"
        self._sources.tuned.record_gate(row.id, state, report.as_dict() | label)
        if not report.passed:
            self._engine.unload(served.name)
            raise ModelRefused(f"{row.id} was refused: {report.reason}", param="model")

    def _refuse_unfit(self, served: ServedModel) -> None:
        if served.adapter_path is None:
            return
        facts = self._sources.read_adapter(served.name, served.adapter_path)
        if reason := why_unfit(facts, self._facts[served.base], self._engine.traits):
            raise ModelRefused(f"The adapter of {served.name} cannot be served: {reason}.", param="model")

    def _make_room(self) -> None:
        while len(self._tuned) >= self._room.tuned:
            idle = (n for n in self._tuned if n not in self._pinned and not self._engine.busy(n))
            name = next(idle, None)  # the least recently used comes first
            if name is None:
                raise NoRoom(
                    f"All {self._room.tuned} places for tuned models are taken by models in use.",
                    param="model",
                    hint="Try again shortly, or set MT_INFERENCE_TUNED_MODELS.",
                    retry_after_s=2.0,
                )
            self._drop(name)

    def _forget(self, name: str) -> None:
        self._pinned.discard(name)
        if name in self._tuned:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._tuned.pop(name)
        self._engine.unload(name)
        metrics.forget_model(name)


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
