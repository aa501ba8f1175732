"""Finds texts that are almost the same: MinHash signatures of word trigrams (rensa), and bands of them that agree (LSH).

Signatures and bands go to temporary files as rows stream by; only the keys of rows (8 bytes each) and, at the end, one band
of all rows (about 40 bytes a row) are in memory.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any

from model_training.errors import UserError

PERMUTATIONS = 64
BANDS = 12
BAND_SIZE = 5
"""Two texts that share 85% of their trigrams agree in one band of 12 with probability 0.999, at 50% with 0.32."""
SIMILAR = 0.85
"""Estimated Jaccard similarity from which on a row is reported; its standard error is 0.045 there."""
COMPARED_AT_ONCE = 16384


@dataclass(frozen=True)
class Signatures:
    """Of consecutive rows: `digests` are 64 uint32 and `bands` 12 uint64 a row, as bytes."""

    keys: list[int]
    digests: bytes
    bands: bytes


@dataclass(frozen=True)
class NearPair:
    """A row, the earlier row that it is like, and how alike they are estimated to be."""

    key: int
    first: int
    similarity: float


def require_packages() -> None:
    """Say what is missing before any work is done.

    Raises:
        UserError: rensa or numpy is not installed.
    """
    missing = [name for name in ("numpy", "rensa") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"The search for near duplicates needs {' and '.join(missing)}, which is not installed.",
            hint="pip install 'model-training[data]', or leave out --near-duplicates.",
        )


def sign(keys: list[int], texts: Sequence[str]) -> Signatures:
    """Signatures of the texts of some rows."""
    import numpy as np  # not part of the bare install
    import rensa

    library: Any = rensa  # it tells no types
    tokens = [shingles(text) for text in texts]
    rows: Any = library.RMinHash.digests_from_token_sets(tokens, PERMUTATIONS, 1)
    digests = np.array(rows, dtype=np.uint32).reshape(len(texts), PERMUTATIONS)
    parts = digests[:, : BANDS * BAND_SIZE].reshape(len(texts), BANDS, BAND_SIZE).astype(np.uint64)
    bands = np.zeros((len(texts), BANDS), dtype=np.uint64)
    for index in range(BAND_SIZE):
        bands = (bands ^ parts[:, :, index]) * np.uint64(0x9E3779B97F4A7C15)
        bands ^= bands >> np.uint64(29)
    return Signatures(keys, digests.tobytes(), bands.tobytes())


class NearDuplicates:
    """Collects signatures, then finds pairs. Close it to remove its files."""

    def __init__(self) -> None:
        self._keys = array("q")
        self._digests: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._bands: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)

    def add(self, signatures: Signatures) -> None:
        """Write signatures down."""
        self._keys.extend(signatures.keys)
        self._digests.write(signatures.digests)
        self._bands.write(signatures.bands)

    def close(self) -> None:
        """Forget everything."""
        self._digests.close()
        self._bands.close()

    def pairs(self) -> Iterator[NearPair]:
        """For each row that is like an earlier one, the most similar of those that were compared; in order of rows.

        Of rows that agree in a band each is compared with the one before it, so that a thousand alike cost a thousand
        comparisons, not half a million.
        """
        count = len(self._keys)
        if not count:
            return
        import numpy as np

        digests = self._mapped(self._digests, np.uint32, PERMUTATIONS)
        bands = self._mapped(self._bands, np.uint64, BANDS)
        partner = np.full(count, -1, dtype=np.int64)
        score = np.zeros(count, dtype=np.float32)
        for band in range(BANDS):
            column = np.array(bands[:, band])
            order = np.argsort(column, kind="stable")  # equal ones stay in order of rows
            agreeing = np.flatnonzero(column[order[1:]] == column[order[:-1]])
            for start in range(0, len(agreeing), COMPARED_AT_ONCE):
                at = agreeing[start : start + COMPARED_AT_ONCE]
                earlier, later = order[at], order[at + 1]
                alike = (digests[earlier] == digests[later]).mean(axis=1, dtype=np.float32)
                better = alike > score[later]
                score[later[better]] = alike[better]
                partner[later[better]] = earlier[better]
        for row in np.flatnonzero(score >= SIMILAR).tolist():
            yield NearPair(self._keys[row], self._keys[int(partner[row])], float(score[row]))

    def _mapped(self, file: IO[bytes], kind: Any, width: int) -> Any:
        import numpy as np

        file.flush()
        return np.memmap(file, dtype=kind, mode="r", shape=(len(self._keys), width))  # pyright: ignore[reportArgumentType, reportCallIssue]


def shingles(text: str) -> list[str]:
    """Trigrams of words; the words themselves where there are too few."""
    words = text.lower().split()
    if len(words) < 3:
        return words or [text]
    return [" ".join(three) for three in zip(words, words[1:], words[2:], strict=False)]
