"""An engine in this process: asked, steered, subscribed to, and restarted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from engine_rig import LIMITS, alert_lines, config, lines_of, replay, trade, write_session

from engine.client import EngineClient, control_socket
from engine.codec import EventDecoder
from engine.config import load_limits
from engine.errors import EngineBusy, EngineUnreachable, RequestRefused, UsageError
from engine.events import KillSwitch
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.subscriber import AlertSubscriber, EventStream
from ext.levels import DEBUG
from feeds import open_feed

BREACH = {"volume": "10"}  # above the limit `size`


@pytest.fixture
def limits(tmp_path: Path) -> str:
    path = tmp_path / "limits.toml"
    path.write_text(LIMITS)
    return str(path)


@pytest.fixture
def engine(tmp_path: Path, limits: str) -> Iterator[Engine]:
    with Engine(config(tmp_path, limits=limits)) as engine:
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[EngineClient]:
    with EngineClient(engine.base) as client:
        yield client


def publish(engine: Engine, *events: object, source: str = "test") -> None:
    with Publisher(engine.base, source) as publisher:
        for event in events:
            publisher.publish(event)


# --- asking -----------------------------------------------------------------------------------------------------


def test_who_publishes_and_then_asks_sees_its_trades(engine: Engine, client: EngineClient) -> None:
    for n in range(50):
        publish(engine, trade(n))
        (row,) = client.positions()
        assert str(row["quantity"]) == str(n + 1)


def test_positions_are_filtered_by_globs(engine: Engine, client: EngineClient) -> None:
    publish(engine, trade(1, account="MM1"), trade(2, account="MM2", symbol="XYZ"), trade(3, account="other"))
    assert [row["account"] for row in client.positions(account="MM*")] == ["MM1", "MM2"]
    assert [row["account"] for row in client.positions(symbol="X?Z")] == ["MM2"]


def test_status_says_how_far_the_engine_is(engine: Engine, client: EngineClient) -> None:
    publish(engine, trade(1, **BREACH), trade(1, **BREACH))
    client.wait_judged(2)
    status = client.status()
    assert (status["seq"], status["judged_through"], status["alert_no"]) == (2, 2, 1)
    assert (status["broker"]["accepted"], status["broker"]["duplicates"]) == (1, 1)
    assert status["error"] == ""
    assert {"name": "risk", "through": 2, "lag": 0} in status["consumers"]
    assert status["journal"]["bytes"] > 0
    assert status["journal"]["disk_free_bytes"] is None or status["journal"]["disk_free_bytes"] > 0
    assert status["snapshot"] == {"last": None, "error": ""}
    assert status["dead_letters"]["counts"] == {}


def test_status_tells_of_the_disk_and_the_last_snapshot(tmp_path: Path) -> None:
    with Engine(config(tmp_path, journal=str(tmp_path / "j"))) as engine, EngineClient(engine.base) as client:
        publish(engine, trade(1))
        client.wait_judged(1)
        engine.snapshots.take()
        status = client.status()
    assert status["journal"]["disk_free_bytes"] > 0
    assert status["journal"]["segments"] == 1
    assert status["snapshot"]["last"]["seq"] == 1


RESIDENT = """
import sys
from pathlib import Path
from decimal import Decimal
from engine.config import EngineConfig
from engine.events import TradeExecuted
from engine.publisher import Publisher
from engine.runtime import Engine
def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if "RssAnon" in line)
base, dead_letters, journal, expected = sys.argv[1:]
begin = resident()
with Engine(EngineConfig(base=base, dead_letters=dead_letters, journal=journal or None, expected_trades=int(expected))):
    with Publisher(base, "test") as publisher:  # the broker makes its own before it takes the first one
        publisher.publish(TradeExecuted("1", "ABC", Decimal(1), Decimal(1), "buy", 1))
    print(resident() - begin)
"""


@pytest.mark.skipif(DEBUG, reason="a sanitizer needs memory of its own")
@pytest.mark.parametrize(("on_disk", "expected"), [(False, 400_000), (True, 2_000_000)])
def test_memory_for_what_is_expected_is_there_before_the_first_trade(
    tmp_path: Path, on_disk: bool, expected: int
) -> None:
    journal = str(tmp_path / "j") if on_disk else ""
    grown = []
    for trades in (0, expected):
        command = [
            sys.executable,
            "-c",
            RESIDENT,
            f"ipc://{tmp_path}/rw",
            str(tmp_path / "dead.db"),
            journal,
            str(trades),
        ]
        grown.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert grown[1] - grown[0] > 60 * 1024


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_engine_that_expects_trades_takes_them_as_ever(tmp_path: Path, on_disk: bool) -> None:
    settings = config(tmp_path, journal=str(tmp_path / "j") if on_disk else None, expected_trades=40)
    with Engine(settings) as engine, EngineClient(engine.base) as client:
        publish(engine, *map(trade, range(50)))
        assert [str(row["quantity"]) for row in client.positions()] == ["50"]
    if on_disk:
        with Engine(settings) as engine, EngineClient(engine.base) as client:
            publish(engine, *map(trade, range(60)), source="again")
            assert [str(row["quantity"]) for row in client.positions()] == ["60"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"", "not a msgpack map"),
        (b"\xc1", "not a msgpack map"),
        (msgspec.msgpack.encode([1]), "not a msgpack map"),
        (msgspec.msgpack.encode({}), "do: expected one of"),
        (msgspec.msgpack.encode({"do": 3}), "do: expected one of"),
        (msgspec.msgpack.encode({"do": "positons"}), 'did you mean "positions"'),
        (msgspec.msgpack.encode({"do": "positions", "account": 3}), "account"),
        (msgspec.msgpack.encode({"do": "positions", "acount": "*"}), "acount"),
        (msgspec.msgpack.encode({"do": "wait"}), "seq"),
        (msgspec.msgpack.encode({"do": "wait", "seq": 99, "timeout_ms": 1}), "not judged yet"),
        (msgspec.msgpack.encode({"do": "limits_set", "limits": {"limit": [{"id": "x"}]}}), "kind"),
        (msgspec.msgpack.encode({"do": "kill", "account": ""}), "account"),
        (msgspec.msgpack.encode({"do": "dlq_show", "letter": 7}), "no dead letter 7"),
    ],
)
def test_a_bad_request_gets_an_error_and_ends_nothing(
    engine: Engine, client: EngineClient, message: bytes, error: str
) -> None:
    with zmq.Context() as context, control_socket(context, engine.base) as socket:
        socket.send(message)
        assert socket.poll(60_000)
        answer = msgspec.msgpack.decode(socket.recv())
    assert answer["ok"] is False
    assert error in answer["error"]
    assert client.request("ping")["engine"] == "riskwire"


def test_a_req_socket_is_answered_too(engine: Engine) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(f"{engine.base}/control")
        socket.send(msgspec.msgpack.encode({"do": "ping"}))
        assert socket.poll(60_000)
        assert msgspec.msgpack.decode(socket.recv())["ok"] is True


def test_no_engine_is_said_after_the_wait(tmp_path: Path) -> None:
    with EngineClient(f"ipc://{tmp_path}", wait_s=0.05) as client, pytest.raises(EngineUnreachable, match=r"0\.05 s"):
        client.request("ping")


# --- steering ---------------------------------------------------------------------------------------------------


def test_limits_are_shown_and_changed_in_the_sequence(engine: Engine, client: EngineClient, limits: str) -> None:
    assert client.request("limits")["limits"] == load_limits(limits).to_dict()
    changed = {"limit": [{"id": "tiny", "kind": "max_trade_volume", "threshold": "1"}]}
    answer = client.request("limits_set", limits=changed, who="me")
    assert answer["seq"] == 2
    publish(engine, trade(1, volume="2"))
    with AlertSubscriber(engine.base, since=0, count=1) as alerts:
        assert [alert.limit_id for alert in alerts] == ["tiny"]


def test_kill_and_session_are_events(engine: Engine, client: EngineClient) -> None:
    assert client.request("session", name="day")["seq"] == 2
    assert client.request("kill", account="acc")["seq"] == 3
    assert client.request("release", account="acc")["seq"] == 4
    with pytest.raises(RequestRefused):
        client.request("session", name="x" * 65)


def test_a_kill_is_announced_on_its_topic(engine: Engine, client: EngineClient) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as gateway:
        gateway.linger = 0
        gateway.subscribe(b"kill.")
        gateway.connect(f"{engine.base}/alerts")
        while not gateway.poll(50):  # until the subscription has arrived
            client.request("kill", account="acc", who="desk")
        topic, body = gateway.recv_multipart()
    told = msgspec.json.decode(body)
    assert topic == b"kill.acc"
    assert (told["account"], told["engaged"], told["who"]) == ("acc", True, "desk")


KILL_LIMITS = """\
[[limit]]
id = "stop"
kind = "max_position"
per = ["account"]
match = { account = "acc" }
threshold = "5"
action = "kill"
"""


def test_a_breach_that_kills_is_announced_once_also_over_restarts(tmp_path: Path) -> None:
    (tmp_path / "kill.toml").write_text(KILL_LIMITS.replace('["account"]', '["account", "symbol"]'))
    settings = config(tmp_path, limits=str(tmp_path / "kill.toml"), journal=str(tmp_path / "journal"))
    with Engine(settings) as engine, EngineClient(engine.base) as client:
        publish(engine, trade(1, volume="6"))
        client.wait_judged(3)  # limits, trade, KillSwitch
    with Engine(settings) as engine, EngineClient(engine.base) as client:
        publish(engine, trade(2))
        client.wait_judged(4)
        stream = EventStream(engine.base)
        decoder = EventDecoder()
        events = [event for _ in range(3) for _, event in decoder.decode_all(stream.next_frame(60))]
        stream.close()
        with AlertSubscriber(engine.base, since=4, idle_s=0.1) as alerts:
            kinds = [alert.kind for alert in alerts]
        assert client.status()["seq"] == 4
    kills = [event for event in events if isinstance(event, KillSwitch)]
    assert [(kill.account, kill.engaged, kill.who, kill.caused_by_seq) for kill in kills] == [("acc", True, "stop", 2)]
    assert kinds == ["trade_after_kill"]


# --- subscribing ------------------------------------------------------------------------------------------------


def test_alerts_of_a_served_engine_are_those_of_the_replay(tmp_path: Path, engine: Engine) -> None:
    trades, path = write_session(tmp_path)
    replayed = replay(trades, limits=path, dead_letters=tmp_path / "replay.db")
    with Publisher(engine.base, "feed") as publisher, open_feed(trades) as feed:
        while (frame := feed.next_frame(100)) is not None:
            publisher.publish_frame(frame)
    with AlertSubscriber(engine.base, since=0, count=replayed.alerts) as alerts:
        assert lines_of(list(alerts)) == alert_lines(replayed)


def test_history_then_live_without_a_hole(engine: Engine) -> None:
    publish(engine, *(trade(n, **BREACH) for n in range(20)))
    seen = []
    with AlertSubscriber(engine.base, since=0, severity="breach", count=40) as alerts:
        for alert in alerts:
            if not seen:
                publish(engine, *(trade(n, **BREACH) for n in range(20, 40)))
            if alert.limit_id == "size":
                seen.append(alert.trade_id)
            if len(seen) == 40:
                break
    assert seen == [f"T{n}" for n in range(40)][: len(seen)]


def test_without_since_only_what_comes_is_given(engine: Engine, client: EngineClient) -> None:
    publish(engine, trade(1, **BREACH))
    client.wait_judged(2)
    with AlertSubscriber(engine.base, count=1) as alerts:
        alerts_iterator = iter(alerts)
        first = threading.Thread(target=lambda: got.append(next(alerts_iterator)))
        got: list[object] = []
        first.start()
        while not alerts.next_no:
            first.join(0.01)
        publish(engine, trade(2, **BREACH))
        first.join(60)
    assert [alert.trade_id for alert in got] == ["T2"]


def test_filters_choose_and_count_only_what_they_choose(engine: Engine) -> None:
    publish(engine, trade(1, account="a", **BREACH), trade(2, account="b", symbol="Q1", **BREACH))
    publish(engine, trade(3, account="b", symbol="Q2", **BREACH))
    with AlertSubscriber(engine.base, since=0, idle_s=0.1) as alerts:
        sizes = [alert for alert in alerts if alert.limit_id == "size"]
    assert [alert.trade_id for alert in sizes] == ["T1", "T2", "T3"]
    with AlertSubscriber(engine.base, since=sizes[1].seq, idle_s=0.1) as alerts:
        assert min(alert.seq for alert in alerts) == sizes[1].seq


def test_an_async_subscriber_sees_the_same(engine: Engine) -> None:
    publish(engine, *(trade(n, **BREACH) for n in range(5)))

    async def read() -> list[str]:
        with AlertSubscriber(engine.base, since=0, severity="breach", idle_s=0.1) as alerts:
            return [alert.trade_id async for alert in alerts if alert.limit_id == "size"]

    assert asyncio.run(read()) == [f"T{n}" for n in range(5)]


def test_idle_ends_a_subscriber_that_hears_nothing_wanted(engine: Engine) -> None:
    with AlertSubscriber(engine.base, since=0, idle_s=0.05) as alerts:
        assert list(alerts) == []


def test_a_subscriber_without_an_engine_says_so(tmp_path: Path) -> None:
    with AlertSubscriber(f"ipc://{tmp_path}", wait_s=0.05) as alerts, pytest.raises(EngineUnreachable):
        list(alerts)


def test_event_stream_gives_every_frame_in_order_from_any_seq(engine: Engine) -> None:
    publish(engine, *(trade(n) for n in range(30)))
    stream = EventStream(engine.base, from_seq=11)
    try:
        seqs: list[int] = []
        while not seqs or seqs[-1] < 31:
            frame = stream.next_frame(60)
            assert frame is not None
            seqs += range(frame.first_seq, frame.first_seq + len(frame))
        publish(engine, trade(30))
        frame = stream.next_frame(60)
        assert frame is not None
        seqs += range(frame.first_seq, frame.first_seq + len(frame))
    finally:
        stream.close()
    assert [seq for seq in seqs if seq >= 11] == list(range(11, 33))


# --- one engine, restarted ----------------------------------------------------------------------------------------


def test_a_second_engine_on_the_address_or_the_journal_is_refused(tmp_path: Path, limits: str) -> None:
    with Engine(config(tmp_path, journal=str(tmp_path / "journal"))) as engine:
        with pytest.raises(EngineBusy):
            Engine(config(tmp_path)).start()
        other = msgspec.structs.replace(engine.config, base=f"ipc://{tmp_path}/other")
        with pytest.raises(UsageError, match="has this journal open"):
            Engine(other).start()
        with EngineClient(engine.base) as client:
            assert client.request("ping")


def test_a_restart_gives_the_same_positions_and_alerts(tmp_path: Path, limits: str) -> None:
    settings = config(tmp_path, limits=limits, journal=str(tmp_path / "journal"))
    seen = []
    for _life in range(3):
        with Engine(settings) as engine:
            publish(engine, *(trade(n, **BREACH) for n in range(10)))
            with EngineClient(engine.base) as client, AlertSubscriber(engine.base, since=0, idle_s=0.2) as alerts:
                seen.append((client.positions(), lines_of(list(alerts)), client.status()["seq"]))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1]


def test_a_subscriber_lives_through_a_restart(tmp_path: Path, limits: str) -> None:
    settings = config(tmp_path, limits=limits, journal=str(tmp_path / "journal"))
    engine = Engine(settings)
    engine.start()
    publish(engine, trade(0, **BREACH))
    got: list[str] = []
    two = threading.Event()

    def follow() -> None:
        with AlertSubscriber(settings.base, since=0, count=2) as alerts:
            for alert in alerts:
                got.append(alert.trade_id)
                two.set()

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        assert two.wait(60)
        engine.stop()
        engine = Engine(settings)
        engine.start()
        publish(engine, trade(1, **BREACH))
        follower.join(60)
    finally:
        engine.stop()
    assert got == ["T0", "T1"]


def test_a_subscriber_follows_an_engine_that_has_forgotten_everything(tmp_path: Path, limits: str) -> None:
    """Without a journal a restart begins at 1 again: another history, of which nothing may be missed either."""
    Path(limits).write_text('[[limit]]\nid = "size"\nkind = "max_trade_volume"\nthreshold = "9"\n')
    settings = config(tmp_path, limits=limits)
    engine = Engine(settings)
    engine.start()
    got: list[str] = []
    some = threading.Event()

    def follow() -> None:
        with AlertSubscriber(settings.base, since=0, count=6) as alerts:
            for alert in alerts:
                got.append(alert.trade_id)
                if len(got) == 3:
                    some.set()

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        publish(engine, *(trade(n, **BREACH) for n in range(3)))
        assert some.wait(60)
        engine.stop()
        engine = Engine(settings)
        engine.start()
        # At once as many alerts as the first life had, so that the numbers alone tell nothing.
        publish(engine, *(trade(n, **BREACH) for n in range(70, 73)))
        follower.join(60)
        assert not follower.is_alive()
    finally:
        engine.stop()
    assert got == ["T0", "T1", "T2", "T70", "T71", "T72"]


def test_tcp_works_like_ipc(tmp_path: Path, limits: str, free_ports: int) -> None:
    settings = msgspec.structs.replace(config(tmp_path, limits=limits), base=f"tcp://127.0.0.1:{free_ports}")
    with Engine(settings) as engine:
        publish(engine, trade(1, **BREACH))
        with EngineClient(engine.base) as client:
            assert len(client.positions()) == 1
