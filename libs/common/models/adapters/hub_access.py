"""One model on the Hugging Face hub: what it holds, and its files, with every refusal turned into a sentence.

Only this module and `hub` know `huggingface_hub`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, silent_tqdm
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import NotFound, PlatformError
from libs.common.models.errors import ChecksumMismatch, HubUnreachable, ModelGated, ModelNotPrepared
from libs.common.models.transfer import Tap

_OFFLINE = ("MT_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TOKEN = ("MT_HF_TOKEN", "HF_TOKEN")
_METADATA_TIMEOUT_S = 30.0
_BLOCK = 1 << 20


class HubSettings(BaseSettings):
    """How to reach the hub, from the variables that its own tools read, or ours."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    endpoint: str = Field(
        default="https://huggingface.co",
        validation_alias=AliasChoices("HF_ENDPOINT"),
        description="The hub, or a mirror.",
    )
    token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(*_TOKEN),
        description="Token for gated models; the one of `hf auth login` if not set.",
    )
    offline: bool = Field(
        default=False, validation_alias=AliasChoices(*_OFFLINE), description="Never reach for the hub."
    )

    @property
    def offline_variable(self) -> str:
        """The variable that asks to stay offline, for a message."""
        return next((name for name in _OFFLINE if os.environ.get(name)), _OFFLINE[0])

    @property
    def token_variable(self) -> str:
        """Where the token comes from, for a message."""
        return next((name for name in _TOKEN if os.environ.get(name)), "`hf auth login`")


@dataclass(frozen=True)
class HubFile:
    """One file of a commit. `size` is in bytes; `checksum` is `sha256:…` for a large file, else git's `git-sha1:…`."""

    name: str
    size: int
    checksum: str

    def is_intact(self, path: Path) -> bool:
        """Whether a local file has the bytes that the hub published."""
        kind, _, expected = self.checksum.partition(":")
        if kind == "sha256":
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest() == expected


class Hub:
    """One model on the hub."""

    def __init__(self, settings: HubSettings, hub_id: str) -> None:
        self._settings = settings
        self._hub_id = hub_id
        chosen = settings.token.get_secret_value() if settings.token else get_token()
        self._token: str | bool = chosen or False

    def describe(self, revision: str | None) -> tuple[str, list[HubFile]]:
        """The commit that a revision stands for, and its files.

        Raises:
            ModelGated, HubUnreachable, NotFound: as they say.
            ModelNotPrepared: the hub does not say what a file must hash to.
        """
        with self._sentences(revision):
            info = HfApi(endpoint=self._settings.endpoint, token=self._token).model_info(
                self._hub_id, revision=revision, files_metadata=True, timeout=_METADATA_TIMEOUT_S
            )
        if info.sha is None:
            raise HubUnreachable(f"{self._settings.endpoint} does not name the commit of {self._hub_id}.")
        return info.sha, [self._file(sibling, bool(info.gated)) for sibling in info.siblings or []]

    def download(self, file: HubFile, revision: str, directory: Path, tap: Tap) -> None:
        """Bring one file, going on with its part if there is one. It gets its name once its checksum is right.

        Raises:
            ModelGated, HubUnreachable, NotFound: as they say.
            ChecksumMismatch: the bytes are not the published ones, also when all come anew.
            Stopped: another file has failed.
        """
        part = directory / f"{file.name}.part"
        began_with = self._append(file, revision, part, tap)
        if not file.is_intact(part):
            part.unlink()
            if began_with:  # the part may have been wrong, not what came after it
                self._append(file, revision, part, tap)
            if not part.exists() or not file.is_intact(part):
                part.unlink(missing_ok=True)
                raise ChecksumMismatch(
                    f"{file.name} of {self._hub_id} has other bytes than the hub published ({file.checksum}); "
                    "it was thrown away.",
                    param="model",
                    hint="Run the command again; if it fails again, a proxy or mirror changes the file.",
                )
        os.replace(part, directory / file.name)

    def _append(self, file: HubFile, revision: str, part: Path, tap: Tap) -> int:
        """Write what is missing of a part; returns the bytes that were there before."""
        if part.is_file() and part.stat().st_size > file.size:
            part.unlink()
        there = part.stat().st_size if part.is_file() else 0
        url = hf_hub_url(self._hub_id, file.name, revision=revision, endpoint=self._settings.endpoint)
        with tap.open(part) as stream, self._sentences(revision, file.name):
            http_get(
                url,
                cast(Any, stream),
                resume_size=there,
                headers=build_hf_headers(token=self._token),
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=cast(Any, silent_tqdm),
            )
        return there

    def _file(self, sibling: Any, gated: bool) -> HubFile:
        if sibling.lfs is not None:
            return HubFile(sibling.rfilename, sibling.lfs.size, f"sha256:{sibling.lfs.sha256}")
        if gated and sibling.blob_id is None:  # names may be shown where contents are not
            raise self._gated()
        if sibling.blob_id is None or sibling.size is None:
            raise ModelNotPrepared(
                f"{self._settings.endpoint} gives no checksum for {sibling.rfilename} of {self._hub_id}.",
                hint="Use a hub that does, or bring the files with --source DIRECTORY.",
            )
        return HubFile(sibling.rfilename, sibling.size, f"git-sha1:{sibling.blob_id}")

    @contextmanager
    def _sentences(self, revision: str | None, file: str | None = None) -> Generator[None]:
        """Turn what `huggingface_hub` raises into errors that say what to do."""
        try:
            yield
        except GatedRepoError as error:
            raise self._gated() from error
        except RevisionNotFoundError as error:
            raise NotFound(
                f"{self._hub_id} has no revision {revision!r} on {self._settings.endpoint}.",
                param="revision",
                hint="Name another with --revision, such as `main`.",
            ) from error
        except RemoteEntryNotFoundError as error:
            raise NotFound(
                f"{self._hub_id} has no {file} at revision {revision}.", param="revision"
            ) from error
        except RepositoryNotFoundError as error:
            raise self._not_found() from error
        except HfHubHTTPError as error:
            raise self._refused(error) from error
        except (httpx.HTTPError, OfflineModeIsEnabled) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        except OSError as error:
            if error.errno is not None:  # of this machine, such as a full disk
                raise
            raise self._unreachable(str(error).splitlines()[0].rstrip(".")) from error

    def _gated(self) -> ModelGated:
        page = f"{self._settings.endpoint}/{self._hub_id}"
        if not self._token:
            return ModelGated(
                f"{self._hub_id} is gated: the hub gives it only to accounts that accepted its licence, "
                "and no token is set.",
                param="model",
                hint=f"Accept the licence at {page}, make a token that may read at "
                f"{self._settings.endpoint}/settings/tokens, and set it as HF_TOKEN (or MT_HF_TOKEN).",
            )
        return ModelGated(
            f"{self._hub_id} is gated, and the account of the token from {self._settings.token_variable} may not "
            "read it.",
            param="model",
            hint=f"Accept the licence at {page} with that account; a fine-grained token also needs the right to read "
            "public gated repositories.",
        )

    def _not_found(self) -> PlatformError:
        where = f"{self._hub_id} on {self._settings.endpoint}"
        return NotFound(
            f"There is no {where}, or it is private.",
            param="source",
            hint="Check the name; a private model needs HF_TOKEN (or MT_HF_TOKEN).",
        )

    def _refused(self, error: HfHubHTTPError) -> PlatformError:
        status = error.response.status_code
        if status == 401:
            return ModelGated(
                f"{self._settings.endpoint} does not accept the token from {self._settings.token_variable}.",
                param="model",
                hint=f"Make a new one at {self._settings.endpoint}/settings/tokens.",
            )
        if status == 403:
            return self._gated()
        return self._unreachable(f"it answers with status {status}")

    def _unreachable(self, why: str) -> HubUnreachable:
        return HubUnreachable(
            f"{self._hub_id} cannot be downloaded from {self._settings.endpoint}: {why}.",
            param="model",
            hint="Run the command again: it goes on where it stopped. Without a network, bring the files with --source.",
        )
