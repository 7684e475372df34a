"""One base address: a socket per role, checked before anything is bound."""

import os
import socket
import stat

import pytest

from engine.endpoints import (
    IPC_PATH_BYTES_MAX,
    LONGEST_SOCKET_NAME,
    ROLES,
    BaseLock,
    check_base,
    default_base,
    endpoint,
    is_served,
    prepare_base,
)
from engine.errors import EndpointError, EngineBusy, UsageError


def test_every_role_of_an_ipc_base_is_a_file_in_its_folder():
    assert endpoint("ipc:///run/riskwire", "alerts") == "ipc:///run/riskwire/alerts"
    assert endpoint("ipc:///run/riskwire/", "worker-3") == "ipc:///run/riskwire/worker-3"


def test_tcp_roles_take_consecutive_ports_in_the_documented_order():
    ports = [endpoint("tcp://127.0.0.1:7400", role) for role in ROLES]
    assert ports == [f"tcp://127.0.0.1:{7400 + index}" for index in range(7)]


def test_localhost_is_an_address_that_can_be_bound():
    assert endpoint("tcp://localhost:7400", "publish") == "tcp://127.0.0.1:7400"


def test_inproc_roles_carry_the_name():
    assert endpoint("inproc://replay-1", "events") == "inproc://replay-1-events"


@pytest.mark.parametrize(
    "base",
    ["", "ipc://", "ipc://@abstract", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65530",
     "tcp://127.0.0.1:99999", "http://x", "inproc://", "inproc://a b", "tcp://[::1]:7400", "127.0.0.1:7400"],
)  # fmt: skip
def test_what_is_no_base_is_refused_in_one_line(base):
    with pytest.raises(EndpointError) as caught:
        check_base(base)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


def test_an_unknown_role_is_refused():
    with pytest.raises(EndpointError, match="no role 'rumours'"):
        endpoint("ipc:///run/riskwire", "rumours")


def test_a_folder_too_long_for_the_system_is_refused_by_name():
    longest = "/" + "x" * (IPC_PATH_BYTES_MAX - len(LONGEST_SOCKET_NAME) - 2)
    assert check_base(f"ipc://{longest}")
    with pytest.raises(EndpointError, match=f"{longest}x is {len(longest) + 1} bytes"):
        check_base(f"ipc://{longest}x")


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.2", "risk.example.com"])
def test_tcp_beyond_loopback_needs_an_explicit_word(host):
    with pytest.raises(EndpointError, match="beyond loopback"):
        check_base(f"tcp://{host}:7400")
    assert check_base(f"tcp://{host}:7400", insecure=True)


def test_all_of_127_is_loopback():
    assert check_base("tcp://127.4.5.6:7400")


def test_the_default_base_lies_in_the_runtime_directory(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_base() == "ipc:///run/user/7/riskwire"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_base().endswith(f"riskwire-{os.getuid()}")


def test_the_folder_is_made_for_its_owner_only(tmp_path):
    folder = tmp_path / "a" / "b"
    prepare_base(f"ipc://{folder}")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EndpointError, match="cannot be used for sockets"):
        prepare_base(f"ipc://{tmp_path}/file/folder")


def test_a_second_lock_on_a_base_is_refused_and_names_the_process(tmp_path):
    base = f"ipc://{tmp_path}/rw"
    with BaseLock(base):
        assert is_served(base)
        with pytest.raises(EngineBusy, match=rf"process {os.getpid()}\b"):
            BaseLock(base).acquire()
    assert not is_served(base)
    with BaseLock(base):
        pass


def test_tcp_bases_are_locked_by_their_address(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with BaseLock("tcp://localhost:7400"):
        with pytest.raises(EngineBusy):
            BaseLock("tcp://127.0.0.1:7400").acquire()
        with BaseLock("tcp://127.0.0.1:7410"):
            pass


def test_sockets_of_a_dead_engine_are_removed_and_nothing_else(tmp_path):
    for name in ("publish", "worker-1", "mine"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / name))
    (tmp_path / "events").write_text("not a socket")
    with BaseLock(f"ipc://{tmp_path}"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.lock", "events", "mine"]
