"""The engines under one contract: transformers in process, vLLM's stand-in as a child, the real vLLM where it is given."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from libs.common.models.loading import LOADING
from libs.common.models.prepare import default_model_dir
from libs.common.models.store import ModelStore
from libs.common.testing.tiny_gemma import write_tiny_adapter, write_tiny_gemma
from services.inference.adapters.vllm_engine import VllmEngine
from services.inference.adapters.vllm_process import Launch
from services.inference.domain.generation import ServedModel
from services.inference.engines.lane import LaneLimits
from services.inference.engines.transformers_engine import TransformersEngine
from services.inference.ports import Engine

ROOT = Path(__file__).parents[3]
REAL_VLLM = os.environ.get("MT_TEST_VLLM")
"""The executable `vllm` of a real installation, the `python` beside it, or the URL of a server (its key is `k`)."""
BASE = "gemma-3-270m"


@dataclass(frozen=True)
class Rig:
    """An engine with a base, and what it should answer. `tolerance` is in nats a token, on average."""

    name: str
    engine: Engine
    base: Path
    folder: Path
    tokenizer: Any
    strength: float
    dtype: torch.dtype
    tolerance: float

    def adapter(self, seed: int, strength: float | None = None) -> Path:
        """An adapter of this base; with strength 0 it changes nothing."""
        path = self.folder / f"adapter-{seed}-{strength}"
        if not path.exists():
            write_tiny_adapter(
                path, self.base, seed=seed, strength=self.strength if strength is None else strength
            )
        return path

    def load_base(self) -> None:
        self.engine.load(ServedModel(BASE, BASE, self.base), self.tokenizer.decode)

    def load(self, name: str, adapter: Path, version: str) -> None:
        self.engine.load(ServedModel(name, BASE, self.base, adapter, version), self.tokenizer.decode)

    def expected(self, ids: list[int], adapter: Path | None = None) -> list[float]:
        """The log-probabilities that transformers and PEFT give, merged."""
        with LOADING:
            model: Any = AutoModelForCausalLM.from_pretrained(self.base, dtype=self.dtype)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
        return logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()


def write_fake_vllm(folder: Path) -> Path:
    """An executable that answers to `vllm serve ...` with the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vllm"
    path.write_text(
        f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.integration.inference.fake_vllm "$@"\n',
        encoding="utf-8",
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def launch(executable: Path, folder: Path, **changes: Any) -> Launch:
    """Small limits, for either server."""
    options: dict[str, Any] = {"max_rank": 8, "max_adapters": 4, "rows": 8, "window": 512}
    return Launch(executable=executable, log=folder / "vllm.log", **(options | changes))


def real_vllm_settings() -> dict[str, Any]:
    """The inference service's settings for the real vLLM, on a processor or attached."""
    assert REAL_VLLM is not None
    where: dict[str, Any] = {"inference_vllm_command": Path(REAL_VLLM)}
    if REAL_VLLM.startswith("http"):
        where = {"inference_vllm_url": REAL_VLLM, "inference_vllm_key": "k"}
    return where | {
        "inference_engine": "vllm",
        "inference_vllm_arguments": "--enforce-eager",
        "inference_dtype": "bfloat16",
    }


@contextmanager
def make_rig(kind: str, folder: Path) -> Iterator[Rig]:
    """A rig with its base loaded; everything is stopped at the end."""
    engine: Any
    if kind == "vllm":
        base = ModelStore(default_model_dir()).prepare(BASE)
        assert REAL_VLLM is not None
        real = launch(Path(REAL_VLLM), folder, arguments=("--enforce-eager",))
        attached = {"url": REAL_VLLM, "key": "k"}
        options: dict[str, Any] = attached if REAL_VLLM.startswith("http") else {"launch": real}
        engine = VllmEngine(**options, max_open=16)
        details: tuple[Any, ...] = (0.04, torch.bfloat16, 0.2)
    else:
        base = write_tiny_gemma(folder / "model")
        details = (0.05, torch.float32, 1e-3)
        if kind == "transformers":
            torch.set_num_threads(1)
            limits = LaneLimits(rows=8, chunk=24, prefill=64, cache=4096, prefixes=512)
            engine = TransformersEngine(dtype="float32", limits=limits, max_waiting=8)
        else:
            engine = VllmEngine(launch=launch(write_fake_vllm(folder / "bin"), folder), max_open=16)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    rig = Rig(kind, engine, base, folder, tokenizer, *details)
    try:
        rig.load_base()
        yield rig
    finally:
        engine.close()
