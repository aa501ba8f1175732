"""Settings of the retrieval service, from `MT_…` environment variables, read once in `main`."""

from __future__ import annotations

from pydantic import Field, SecretStr

from libs.common.settings import PlatformSettings


class RagSettings(PlatformSettings):
    """The knobs of search and packing. Reading the prompt is what costs on a CPU, so the default context is small."""

    rag_context_tokens: int = Field(
        default=384, ge=0, le=100_000, description="Tokens that retrieved passages may cost in a prompt."
    )
    rag_passages: int = Field(default=3, ge=1, le=50, description="Passages in a prompt at most.")
    rag_candidates: int = Field(
        default=8, ge=1, le=100, description="Best passages that packing may choose from."
    )
    rag_output_tokens: int = Field(
        default=256, ge=1, description="Reserved for the answer where the request names no max_tokens."
    )
    rag_threads: int = Field(default=2, ge=1, description="Threads of the embedder.")
    rag_batch_size: int = Field(default=16, ge=1, le=1024, description="Passages embedded at once.")
    qdrant_url: str | None = Field(
        default=None, description="A Qdrant server for the vectors; the engine in this process if not set."
    )
    qdrant_api_key: SecretStr | None = Field(default=None, description="Its key.")
