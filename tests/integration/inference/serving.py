"""The inference service over HTTP for tests: its store, its database, and adapters as the trainer leaves them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from libs.common.artifacts import ArtifactStore
from libs.common.db.engine import Database
from libs.common.db.tables import ArtifactRow, ModelRow
from libs.common.models.fingerprint import FILE_NAME
from libs.common.models.loading import LOADING
from libs.common.models.prompting import encode
from libs.common.service import BackgroundServer
from libs.common.testing.tiny_gemma import write_tiny_gemma
from services.inference.main import build_app
from services.inference.settings import InferenceSettings
from tests.conftest import Stores, free_ports

BASE = "gemma-3-270m"
TEXTS = ["Question: what is a list?\nAnswer: a row of things", "def f(x):\n    return x"]
QUESTION = [{"role": "user", "content": "What is a list?"}]


@dataclass(frozen=True)
class Served:
    url: str
    token: str
    store: ArtifactStore
    database: Database
    base: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.token, max_retries=0)

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=300, **options)

    def publish(self, model_id: str, adapter: Path) -> str:
        """Put an adapter into the store and the database, as the trainer and the gateway do."""
        artifact = self.store.commit(adapter)
        with self.database.session() as session:
            session.merge(ArtifactRow(sha256=artifact, kind="adapter", bytes=1))
            session.merge(
                ModelRow(
                    id=model_id, project_id="proj_default", base=BASE, artifact=artifact, state="pending"
                )
            )
        return model_id

    def engine_pid(self) -> int | None:
        """The process of the vLLM server that the service started, while it runs."""
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE and "--served-model-name" in child.cmdline():
                    return child.pid
        return None

    def row(self, model_id: str) -> ModelRow:
        with self.database.session() as session:
            return session.get_one(ModelRow, model_id)


@contextmanager
def serving(stores: Stores, database: Database, models: Path, **changes: Any) -> Iterator[Served]:
    """The service on a base in `models` (a tiny one unless it is there), ready."""
    base = models / BASE
    if not base.exists():
        write_tiny_gemma(base)
    url = f"http://127.0.0.1:{free_ports(1)}"
    options: dict[str, Any] = {
        "home": stores.home,
        "model_dir": models,
        "database_url": stores.settings.database_url,
        "broker_url": stores.settings.broker_url,
        "internal_token": stores.settings.internal_token,
        "inference_url": url,
        "inference_dtype": "float32",
        "inference_window": 256,
        "inference_max_tokens": 16,
        "inference_tuned_models": 1,
        "inference_threads": 1,
        "inference_recheck_s": 0,
    }
    settings = InferenceSettings(**(options | changes))
    server = BackgroundServer(build_app(settings, database), url)
    server.start()
    try:
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, 900)
        token = settings.internal_token.get_secret_value()
        yield Served(url, token, ArtifactStore(stores.home / "artifacts"), database, base)
    finally:
        server.stop()


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def write_fingerprint(
    adapter: Path, base: Path, measured: Path | None = None, dtype: torch.dtype = torch.float32
) -> Path:
    """What the trainer stores, computed with PEFT; `measured` is another adapter to take the numbers from."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    with LOADING:  # the service in this process may be reading one, too
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        tuned = PeftModel.from_pretrained(model, measured or adapter)
    texts = []
    for text in TEXTS:
        ids = encode(tokenizer, text)
        with torch.inference_mode():
            after = log_probabilities(tuned, ids)
            with tuned.disable_adapter():
                texts.append({"ids": ids, "base": log_probabilities(tuned, ids), "adapter": after})
    content = {"version": 1, "precision": str(dtype).removeprefix("torch."), "merged": True, "texts": texts}
    (adapter / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")
    return adapter


def log_probabilities(model: Any, ids: list[int]) -> list[float]:
    logits = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    return logits.gather(-1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1).tolist()


def write_copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target
