"""A tiny Gemma and an engine on it, made once for this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from libs.common.testing.tiny_gemma import write_tiny_adapter, write_tiny_gemma
from services.inference.domain.generation import ServedModel
from services.inference.engines.lane import LaneLimits
from services.inference.engines.transformers_engine import TransformersEngine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("models") / "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return write_tiny_adapter(tmp_path_factory.mktemp("adapter"), tiny)


@pytest.fixture(scope="session")
def tokenizer(tiny: Path) -> Any:
    return Tokenizer.from_file(str(tiny / "tokenizer.json"))


@pytest.fixture(scope="session")
def engine(tiny: Path, tiny_adapter: Path, tokenizer: Any) -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    limits = LaneLimits(rows=6, chunk=24, prefill=64, cache=2048, prefixes=512)
    engine = TransformersEngine(dtype="float32", limits=limits, max_waiting=16)
    engine.load(ServedModel("tiny", "tiny-gemma", tiny), tokenizer.decode)
    engine.load(ServedModel("tuned", "tiny-gemma", tiny, tiny_adapter), tokenizer.decode)
    yield engine
    engine.close()
