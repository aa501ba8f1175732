"""Models that can answer, and adapters brought in from outside."""

from __future__ import annotations

from pathlib import Path

from model_training.client.transport import Transport
from model_training.contracts.base import Deleted, Page
from model_training.contracts.models import (
    CHAMPION,
    Adapter,
    AdapterAction,
    AliasChange,
    ModelAlias,
    ModelObject,
)
from model_training.errors import UserError

TAKEN = (".safetensors", ".json")
"""What an adapter's folder may send; pickled weights are never read."""


class Models:
    """`/v1/models`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Page[ModelObject]:
        """Bases on this machine and tuned models, newest first."""
        return self._transport.get(Page[ModelObject], "/v1/models")

    def get(self, model_id: str) -> ModelObject:
        """One model with its lineage."""
        return self._transport.get(ModelObject, f"/v1/models/{model_id}")

    def newest_tuned(self, base: str) -> ModelObject | None:
        """The model of a base that was tuned last, or None."""
        return next((m for m in self.list().data if m.root == base and m.state != "refused"), None)

    def promote(self, model_id: str, *, reason: str = "") -> ModelAlias:
        """Let `champion` point at a model, unless somebody else moves it at the same moment."""
        return self._move(model_id, "promote", reason)

    def rollback(self, *, reason: str = "") -> ModelAlias:
        """Let `champion` point where it did before its last promotion."""
        return self._move(CHAMPION, "rollback", reason)

    def champion_history(self, *, limit: int = 20) -> Page[ModelAlias]:
        """Where `champion` pointed, newest first; the first is where it points now."""
        return self._transport.get(Page[ModelAlias], f"/v1/models/{CHAMPION}/history", {"limit": limit})

    def adapters(self) -> Page[Adapter]:
        """Tuned models as inference sees them: in memory, pinned, refused and why."""
        return self._transport.get(Page[Adapter], "/v1/adapters")

    def act(self, model_id: str, action: AdapterAction) -> Adapter:
        """Load, unload, pin or unpin a tuned model. Needs the scope `admin`."""
        return self._transport.act(Adapter, f"/v1/adapters/{model_id}/{action}")

    def delete(self, model_id: str) -> Deleted:
        """Forget a tuned model; refused while it is the champion or an unfinished job needs it."""
        return self._transport.delete(Deleted, f"/v1/models/{model_id}")

    def download(self, model_id: str, path: Path) -> None:
        """Write a tuned model's files to a path, as a zip file.

        Raises:
            ConnectionFailed: the connection broke; the path holds a part then.
        """
        self._transport.save(f"/v1/models/{model_id}/archive", path)

    def _move(self, model_id: str, how: str, reason: str) -> ModelAlias:
        moves = self.champion_history(limit=1).data
        version = moves[0].version if moves else 0
        body = AliasChange(reason=reason)
        return self._transport.change(ModelAlias, f"/v1/models/{model_id}/{how}", body, version)

    def import_adapter(self, directory: Path | str) -> ModelObject:
        """Send an adapter's folder; the platform stores it as an artifact and makes it a model.

        Only `.safetensors` and `.json` files at the top of the folder are sent.

        Raises:
            UserError: the folder is none, or holds no adapter.
            ApiError: its base is unknown or a file is refused.
        """
        folder = Path(directory)
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder.", hint="Name the folder that holds the adapter's files."
            )
        lacking = [
            n for n in ("adapter_config.json", "adapter_model.safetensors") if not (folder / n).is_file()
        ]
        if lacking:
            raise UserError(
                f"{folder} holds no adapter: {' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} missing.",
                hint="Give a folder that PEFT saved with safetensors.",
            )
        files = [("files", path) for path in sorted(folder.iterdir()) if path.suffix in TAKEN]
        return self._transport.upload(ModelObject, "/v1/models/import", files, {})
