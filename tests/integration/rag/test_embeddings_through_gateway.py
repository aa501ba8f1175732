"""`/v1/embeddings` through a real gateway process, by the unmodified `openai` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from libs.common.db.engine import Database
from libs.common.errors import InvalidInput
from libs.common.service import BackgroundServer, create_app
from services.rag.api import make_router
from services.rag.domain.search import EmbedderStamp
from services.rag.service.embeddings import Embeddings
from tests.conftest import Stores, free_ports
from tests.integration.gateway.conftest import running_gateway


class Lengths:
    """A pool and its one embedder `lengths`, whose vector says how long the text is."""

    stamp = EmbedderStamp("lengths", "0" * 64, 2, "", "", 100)

    def get(self, name: str) -> Lengths:
        """Itself."""
        if name != "lengths":
            raise InvalidInput(
                f"There is no embedder {name!r}.", param="embedder", hint="Available: lengths."
            )
        return self

    def count_tokens(self, texts: Sequence[str], *, query: bool = False) -> list[int]:
        """Characters."""
        return [len(text) for text in texts]

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Length and its inverse."""
        return np.array([(len(text), 1 / len(text)) for text in texts], dtype=np.float32)


def test_vectors_and_refusals_pass_through_the_gateway(stores: Stores, database: Database) -> None:
    pool: Any = Lengths()
    app = create_app("rag")
    nothing: Any = None
    token = stores.settings.internal_token.get_secret_value()
    app.include_router(make_router(nothing, nothing, nothing, token, embeddings=Embeddings(pool)))
    url = f"http://127.0.0.1:{free_ports(1)}"
    server = BackgroundServer(app, url)
    server.start()
    try:
        with running_gateway(stores, {"MT_RAG_URL": url}) as gateway:
            client = gateway.openai()
            texts = ["a", "ccc", "bb"] * 20
            reply = client.embeddings.create(model="lengths", input=texts)
            assert [round(item.embedding[0]) for item in reply.data] == [1, 3, 2] * 20
            assert (reply.usage.total_tokens, reply.model) == (120, "lengths")
            with pytest.raises(openai.BadRequestError, match="101 tokens") as refused:
                client.embeddings.create(model="lengths", input=["x", "x" * 101])
            assert refused.value.param == "input.1"
            with pytest.raises(openai.NotFoundError, match="Available: lengths"):
                client.embeddings.create(model="ada", input="x")
            with pytest.raises(openai.AuthenticationError):
                gateway.openai("mt-" + "z" * 43).embeddings.create(model="lengths", input="x")
    finally:
        server.stop()
