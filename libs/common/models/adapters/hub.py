"""Downloads a model from the Hugging Face hub through `huggingface_hub`: one commit, safetensors only, every byte verified.

A broken download stays in the staging directory and goes on from where it stopped, in the same commit. The library's own
downloader starts a file over when its process ended, so its HTTP layer is used with part files of ours. The endpoint is
read from `HF_ENDPOINT`; a token and the wish to stay offline as `HubSettings` says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

from libs.common.errors import InvalidInput
from libs.common.models import checkpoint
from libs.common.models.adapters.hub_access import Hub, HubFile, HubSettings
from libs.common.models.errors import ModelOffline, megabytes, require_room
from libs.common.models.provenance import Source, add_licence
from libs.common.models.store import Progress
from libs.common.models.transfer import Meter
from model_training.config.catalogue import PUBLISHED, Licence

PLAN_FILE = ".plan.json"
_AT_ONCE = 4


@dataclass(frozen=True)
class Plan:
    """What is downloaded: the files of one commit. It lies beside the parts, so that a later try takes the same."""

    hub_id: str
    revision: str
    files: list[HubFile]

    def write(self, directory: Path) -> None:
        """Keep it for the next try."""
        (directory / PLAN_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Plan | None:
        """The plan of an earlier try; None if there is none that can be read."""
        try:
            data = json.loads((directory / PLAN_FILE).read_text(encoding="utf-8"))
            return cls(data["hub_id"], data["revision"], [HubFile(**file) for file in data["files"]])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class HubModel:
    """A model on the hub. `revision` is a commit, branch or tag; None is the newest commit of the default branch."""

    resumable = True

    def __init__(
        self, name: str, hub_id: str, revision: str | None = None, template: str | None = None
    ) -> None:
        self._name = name
        self._hub_id = hub_id
        self._revision = revision
        self._template = template
        self._settings = HubSettings()
        self._hub = Hub(self._settings, hub_id)

    def fetch(self, directory: Path, progress: Progress) -> Source:
        """Download into a directory, which may hold parts of an earlier try.

        Raises:
            ModelOffline, ModelGated, HubUnreachable, ChecksumMismatch: as they say.
            InvalidInput: the hub's model is none that the platform can use.
            DiskFull: no room for what is missing.
        """
        if self._settings.offline:
            raise self._offline(directory)
        plan = self._plan(directory)
        names = [file.name for file in plan.files]
        beside = checkpoint.beside_weights(names)
        if "config.json" not in names:
            raise InvalidInput(f"{self._hub_id} on the hub holds no config.json.", param="source")
        first = [name for name in ("config.json", checkpoint.INDEX_FILE) if name in names]
        small = Meter(progress)
        self._load(directory, plan, first, small)  # they say what else is needed, and whether it is allowed
        checkpoint.require_usable_config(directory, self._hub_id)
        weights = checkpoint.weight_files(names, checkpoint.read_index(directory), self._hub_id)
        self._load(directory, plan, beside, small)
        record = self._record(directory, plan, beside + weights)
        progress(add_licence(record, directory), 0.0)
        missing = self._missing_bytes(directory, plan, weights)
        require_room(directory.parent, missing)
        progress(f"{self._hub_id} at {plan.revision[:12]}: {megabytes(missing)} to download", 0.0)
        self._load(directory, plan, weights, Meter(progress, missing))
        return self._finish(directory, record)

    def _plan(self, directory: Path) -> Plan:
        """The plan of an earlier try if it is of the wanted commit; a new one drops what that left."""
        earlier = Plan.read(directory)
        if earlier and earlier.hub_id == self._hub_id and self._revision in (None, earlier.revision):
            return earlier
        revision, files = self._hub.describe(self._revision)
        if earlier is None or (earlier.hub_id, earlier.revision) != (self._hub_id, revision):
            for path in directory.iterdir():
                path.unlink()
        plan = Plan(self._hub_id, revision, files)
        plan.write(directory)
        return plan

    def _load(self, directory: Path, plan: Plan, names: Sequence[str], meter: Meter) -> None:
        """Download the files that are not there. The first failure stops the others; what came so far stays."""
        files = [file for file in plan.files if file.name in names and not (directory / file.name).is_file()]
        stop = Event()
        pool = ThreadPoolExecutor(_AT_ONCE)
        futures = [
            pool.submit(self._hub.download, file, plan.revision, directory, meter.within(stop))
            for file in files
        ]
        interrupted = False
        try:
            for future in as_completed(futures):
                future.result()
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            stop.set()
            # A transfer that stands still would be waited for a minute; who interrupts does not want that.
            pool.shutdown(wait=not interrupted, cancel_futures=True)

    def _missing_bytes(self, directory: Path, plan: Plan, names: Sequence[str]) -> int:
        sizes = {file.name: file.size for file in plan.files}
        missing = (name for name in names if not (directory / name).is_file())
        return sum(max(0, sizes[name] - _size(directory / f"{name}.part")) for name in missing)

    def _record(self, directory: Path, plan: Plan, names: Sequence[str]) -> Source:
        config = checkpoint.require_usable_config(directory, self._hub_id)
        entry = PUBLISHED.get(self._name)
        licence: Licence = entry.licence if entry else checkpoint.licence_of(config["model_type"])
        return Source(
            kind="hub",
            origin=f"{self._settings.endpoint}/{plan.hub_id}",
            licence=licence,
            revision=plan.revision,
            files={file.name: file.checksum for file in plan.files if file.name in names},
        )

    def _finish(self, directory: Path, record: Source) -> Source:
        found = checkpoint.inspect(directory, self._hub_id)
        (directory / PLAN_FILE).unlink()
        if self._name in PUBLISHED:
            return record
        return record.with_entry(found.entry(self._name, self._template))

    def _offline(self, directory: Path) -> ModelOffline:
        plan = Plan.read(directory)
        if plan is None:
            missing = "nothing of it is on this machine"
        else:
            names = checkpoint.beside_weights(f.name for f in plan.files)
            names += [f.name for f in plan.files if f.name.endswith(".safetensors")]
            absent = [name for name in names if not (directory / name).is_file()]
            missing = f"of the download that was begun {', '.join(absent) or 'nothing'} is missing"
        return ModelOffline(
            f"{self._name} would be downloaded from {self._settings.endpoint}/{self._hub_id}, but "
            f"{self._settings.offline_variable} is set; {missing}.",
            param="model",
            hint=f"Unset it, or bring the files: `mt models prepare {self._name} --source DIRECTORY`.",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
