"""The endpoints of a base: one address names a running engine, one socket per role hangs under it."""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from engine.errors import EndpointError, EngineBusy

ROLES: Final = ("publish", "events", "replay", "alerts", "control", "queue", "sink")
IPC_PATH_BYTES_MAX: Final = 107 if sys.platform.startswith("linux") else 103  # sun_path without its NUL
LONGEST_SOCKET_NAME: Final = "worker-9999"
LOCK_NAME: Final = "engine.lock"

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]*\]|[^:\[\]]+):(?P<port>[0-9]{1,5})/?")
_INPROC_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def default_base() -> str:
    """Return the base used where none is given: `ipc://` in the user's runtime directory."""
    return f"ipc://{runtime_directory()}"


def runtime_directory() -> str:
    """Return `$XDG_RUNTIME_DIR/riskwire`, or a folder named by user id under the temporary one."""
    directory = os.environ.get("XDG_RUNTIME_DIR")
    if directory:
        return os.path.join(directory, "riskwire")
    return os.path.join(tempfile.gettempdir(), f"riskwire-{os.getuid()}")


def endpoint(base: str, role: str) -> str:
    """Return the ZeroMQ endpoint of a role under a base.

    base: `ipc://FOLDER` (a socket file per role), `tcp://host:port` (port + the role's index) or
    `inproc://NAME`. role: one of ROLES, or `worker-<n>` for an ipc or inproc base.
    Raises EndpointError where the base or the role is none of these.
    """
    scheme, _, rest = base.partition("://")
    if role not in ROLES and (scheme == "tcp" or not role.startswith("worker-")):
        raise EndpointError(f"no role {role!r} under {base}; expected one of {', '.join(ROLES)}")
    if scheme == "ipc":
        return f"ipc://{os.path.join(_ipc_folder(base), role)}"
    if scheme == "tcp":
        host, port = _tcp_parts(base)
        return f"tcp://{host}:{port + ROLES.index(role)}"
    if scheme == "inproc" and _INPROC_NAME.fullmatch(rest):
        return f"inproc://{rest}-{role}"
    raise EndpointError(f"{base!r} is no base endpoint; expected ipc://FOLDER, tcp://HOST:PORT or inproc://NAME")


def check_base(base: str, insecure: bool = False) -> str:
    """Return the base if an engine can be reached under it.

    insecure: allow `tcp://` beyond loopback, where anybody on the network can read and steer the engine.
    Raises EndpointError: not an endpoint, a path longer than the system allows, or tcp beyond loopback.
    """
    endpoint(base, ROLES[-1])
    if base.startswith("ipc://"):
        _check_ipc_length(base)
    elif base.startswith("tcp://") and not insecure:
        _check_loopback(base)
    return base


def prepare_base(base: str) -> None:
    """Make the folder of an `ipc://` base (with parents, mode 0700); other bases need nothing.

    Raises EndpointError where the folder cannot be made or belongs to somebody else.
    """
    if not base.startswith("ipc://"):
        return
    folder = _ipc_folder(base)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        owner = os.stat(folder).st_uid
        if owner != os.getuid():
            raise EndpointError(f"{folder} belongs to user {owner}; choose a folder of your own with --base")
        os.chmod(folder, 0o700)
    except OSError as problem:
        raise EndpointError(
            f"{folder}: cannot be used for sockets: {problem.strerror}; choose another folder with --base"
        ) from None


class BaseLock:
    """The right to serve a base: one engine per address, held by flock until released or the process ends.

    libzmq would silently take over the ipc path of a running engine, hence the lock.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, and remove the sockets that a dead engine left in an ipc folder.

        Raises EngineBusy where another engine holds it, EndpointError where the lock file cannot be made.
        """
        if self.base.startswith("inproc://"):
            return
        prepare_base(self.base)
        path = _lock_path(self.base)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise EndpointError(f"{path}: cannot be used as a lock file: {problem.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            self.release()
            raise EngineBusy(
                f"an engine already serves {self.base} (process {owner or 'unknown'}); "
                "stop it, or choose another --base"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        if self.base.startswith("ipc://"):
            _remove_stale_sockets(_ipc_folder(self.base))

    def release(self) -> None:
        """Give the lock back. The file stays: two engines could hold two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> BaseLock:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def is_served(base: str) -> bool:
    """Tell whether an engine on this machine holds the lock of a base. Takes and leaves nothing."""
    try:
        fd = os.open(_lock_path(base), os.O_RDWR | os.O_CLOEXEC)
    except (OSError, EndpointError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _lock_path(base: str) -> str:
    if base.startswith("ipc://"):
        return os.path.join(_ipc_folder(base), LOCK_NAME)
    host, port = _tcp_parts(base)
    folder = runtime_directory()
    prepare_base(f"ipc://{folder}")
    name = hashlib.sha256(f"{host}:{port}".encode()).hexdigest()[:8]
    return os.path.join(folder, f"tcp-{port}-{name}.lock")


def _remove_stale_sockets(folder: str) -> None:
    """Remove the socket files of roles and workers; only called with the lock held."""
    for path in Path(folder).iterdir():
        if (path.name in ROLES or path.name.startswith("worker-")) and path.is_socket():
            path.unlink(missing_ok=True)


def _ipc_folder(base: str) -> str:
    folder = base.removeprefix("ipc://").rstrip("/")
    if not folder or folder.startswith("@") or "\0" in folder:
        raise EndpointError(f"{base!r} names no folder; expected ipc:///path/of/a/folder")
    return folder


def _check_ipc_length(base: str) -> None:
    folder = _ipc_folder(base)
    longest_bytes = len(os.fsencode(os.path.join(folder, LONGEST_SOCKET_NAME)))
    if longest_bytes > IPC_PATH_BYTES_MAX:
        allowed = IPC_PATH_BYTES_MAX - len(LONGEST_SOCKET_NAME) - 1
        raise EndpointError(
            f"ipc folder {folder} is {len(os.fsencode(folder))} bytes long; a socket's path may have "
            f"{IPC_PATH_BYTES_MAX}, so at most {allowed} for the folder: choose a shorter one"
        )


def _tcp_parts(base: str) -> tuple[str, int]:
    found = _TCP.fullmatch(base)
    if found is None:
        raise EndpointError(f"{base!r} is no tcp endpoint; expected tcp://HOST:PORT such as tcp://127.0.0.1:7400")
    port_max = 65535 - len(ROLES) + 1
    port = int(found["port"])
    if not 1 <= port <= port_max:
        raise EndpointError(
            f"{base}: port {port} leaves no room; expected 1 to {port_max}, since {len(ROLES)} "
            "consecutive ports are used"
        )
    host = found["host"]
    if host.startswith("["):
        raise EndpointError(f"{base}: IPv6 addresses are not supported; give an IPv4 address or a host name")
    return ("127.0.0.1" if host == "localhost" else host), port


def _check_loopback(base: str) -> None:
    host, _ = _tcp_parts(base)
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise EndpointError(
            f"{base} is beyond loopback: anybody on the network could read and steer the engine; "
            "use 127.0.0.1, or say --insecure if the network is yours"
        )
