"""Counts tokens with a model's own `tokenizer.json`, through the `tokenizers` package where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model_training.errors import UserError


@dataclass(frozen=True)
class TokenizerFile:
    """A `TokenCounter` that can be copied into other processes: only the path travels."""

    path: Path

    @classmethod
    def find(cls, path: Path) -> TokenizerFile:
        """The tokenizer of a file, or of a model's folder.

        Raises:
            UserError: there is none, it cannot be read, or `tokenizers` is not installed.
        """
        if find_spec("tokenizers") is None:
            raise UserError(
                "Counting tokens needs the package tokenizers, which is not installed.",
                hint="pip install 'model-training[data]', or leave out --tokenizer.",
            )
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            _load(file)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(
                f"{file} is no tokenizer: {error}.",
                hint="Name a model's folder, or its tokenizer.json.",
            ) from error
        return cls(file)

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without those that mark its beginning or end."""
        encodings = _load(self.path).encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]


@lru_cache(maxsize=2)
def _load(path: Path) -> Any:
    from tokenizers import Tokenizer  # not part of the bare install

    tokenizer: Any = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
