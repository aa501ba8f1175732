"""Models from this machine: a folder with safetensors is copied, a GGUF file converted to one."""

from __future__ import annotations

import hashlib
import mmap
import struct
from pathlib import Path

from libs.common.errors import InvalidInput
from libs.common.models import checkpoint
from libs.common.models.checkpoint import Checkpoint
from libs.common.models.errors import ModelNotPrepared, megabytes, require_room
from libs.common.models.provenance import Kind, Source, add_licence
from libs.common.models.store import Progress
from model_training.config.catalogue import PUBLISHED, Licence

_BLOCK = 1 << 22


class FolderModel:
    """A folder in Hugging Face's layout. Only settings, tokenizer, templates, licence, card and safetensors are taken."""

    resumable = False

    def __init__(self, name: str, folder: Path, template: str | None = None) -> None:
        self._name = name
        self._folder = folder
        self._template = template

    def fetch(self, directory: Path, progress: Progress) -> Source:
        """Copy into an empty directory.

        Raises:
            InvalidInput: the folder holds no model that the platform can use, or another than its name says.
            DiskFull: no room.
        """
        where = str(self._folder)
        found = checkpoint.inspect(self._folder, where)
        names = [path.name for path in self._folder.iterdir() if path.is_file()]
        weights = checkpoint.weight_files(names, checkpoint.read_index(self._folder), where)
        wanted = [*checkpoint.beside_weights(names), *weights]
        needed = sum((self._folder / name).stat().st_size for name in wanted)
        require_room(directory.parent, needed)
        record = _record("folder", self._name, self._folder, found, self._template)
        done, files = 0, dict[str, str]()
        for name in wanted:
            progress(f"copying {name} ({megabytes(needed)} in all)", 0.95 * done / max(needed, 1))
            files[name] = f"sha256:{_copy(self._folder / name, directory / name)}"
            done += (directory / name).stat().st_size
        progress(add_licence(record, directory), 0.98)
        return record.with_files(files)


class GgufModelFile:
    """One GGUF file of a Gemma 3 text model, in any quantisation; its weights become bfloat16."""

    resumable = False

    def __init__(self, name: str, file: Path, template: str | None = None) -> None:
        self._name = name
        self._file = file
        self._template = template

    def fetch(self, directory: Path, progress: Progress) -> Source:
        """Convert into an empty directory.

        Raises:
            ModelNotPrepared: it is damaged, or of another architecture.
            InvalidInput: it is another model than its name says.
            DiskFull: no room.
        """
        progress(f"reading {self._file}", 0.0)
        self._convert(directory, progress)
        found = checkpoint.inspect(directory, str(self._file))
        record = _record("gguf", self._name, self._file, found, self._template)
        progress(add_licence(record, directory), 1.0)
        return record.with_files({self._file.name: f"sha256:{_sha256(self._file)}"})

    def _convert(self, directory: Path, progress: Progress) -> None:
        from libs.common.models.adapters import gemma_checkpoint, gemma_tokenizer
        from libs.common.models.adapters.gguf_file import read_gguf

        with self._file.open("rb") as stream:
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            model = read_gguf(data)
            require_room(directory.parent, gemma_checkpoint.converted_bytes(model))
            gemma_tokenizer.write_tokenizer(model.metadata, directory, {})
            gemma_checkpoint.write_checkpoint(
                model, directory, lambda done: progress("converting the weights", 0.1 + 0.8 * done)
            )
        except (struct.error, ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise ModelNotPrepared(
                f"{self._file} is damaged or cut off: {error!r}.",
                param="source",
                hint="Fetch the file again.",
            ) from error


def _record(kind: Kind, name: str, path: Path, found: Checkpoint, template: str | None) -> Source:
    """The record of a local source; a name of the catalogue must be that of a model of this size."""
    published = PUBLISHED.get(name)
    licence: Licence = published.licence if published else checkpoint.licence_of(found.model_type)
    # Its name alone: the record travels with artifacts, and a path tells strangers about this machine.
    record = Source(kind, path.expanduser().resolve().name, licence)
    if published is None:
        return record.with_entry(found.entry(name, template))
    if template is not None and template != published.template:
        raise InvalidInput(
            f"{name} is prompted with the template {published.template!r}.",
            param="template",
            hint="Give the model a name of its own with --name to prompt it otherwise.",
        )
    checkpoint.require_size_of(published, found, str(path))
    return record


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while block := reading.read(_BLOCK):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
