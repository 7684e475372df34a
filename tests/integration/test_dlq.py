"""`riskwire dlq` as its users run it: on a file, and on a running engine."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_process import Done, assert_one_line, start
from queue_rig import wait_for

from engine.cli.main import main
from engine.deadletters import DeadLetterStore
from engine.events import DeadLetter, TradeExecuted
from engine.publisher import Publisher
from engine.worker import Worker

HOUR_NS = 3600 * 10**9


def riskwire(*words: str, cwd: Path) -> Done:
    """Run one command line in this process, which is what most of these tests need and far quicker."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def file(tmp_path: Path) -> str:
    import time

    with DeadLetterStore(tmp_path / "x.db") as store:
        letter = DeadLetter("invalid", "feed", "volume -1: expected above 0", payload=b"T1,\xff\x1b[31m", at=1)
        trade = '{"type":"TradeExecuted","trade_id":"T2"}'
        store.record(
            [
                letter,
                letter,
                DeadLetter(
                    "handler_failed",
                    "queue:q",
                    "ValueError: no",
                    payload=trade.encode(),
                    event=trade,
                    seq=7,
                    account="MM1",
                    symbol="BTC",
                    trade_id="T2",
                    attempts=5,
                    history=[{"attempt": 5, "at": 1, "worker": "w", "kind": "error", "error": "no"}],
                    traceback="Traceback (most recent call last): …",
                    at=time.time_ns(),
                ),
            ]
        )
    return "x.db"


def test_list_shows_each_letter_once_with_its_count_and_no_control_characters(file: str, tmp_path: Path) -> None:
    done = riskwire("dlq", "list", file, cwd=tmp_path)
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert "\x1b" not in done.out
    assert "handler_failed" in done.out


def test_list_json_is_an_array_with_the_exact_bytes(file: str, tmp_path: Path) -> None:
    done = riskwire("dlq", "list", file, "--json", cwd=tmp_path)
    first, second = json.loads(done.out)
    assert (first["reason"], first["count"], first["event"]) == ("invalid", 2, None)
    assert base64.b64decode(first["payload_base64"]) == b"T1,\xff\x1b[31m"
    assert (second["seq"], second["event"]["trade_id"], second["attempts"]) == (7, "T2", 5)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--reason", "invalid"], [1]),
        (["--stage", "queue"], [2]),
        (["--stage", "queue:q"], [2]),
        (["--account", "MM*"], [2]),
        (["--symbol", "B*"], [2]),
        (["--since", "1h"], [2]),
        (["--since", "1970-01-01T00:00:00Z"], [1, 2]),
        (["--status", "resolved"], []),
        (["--limit", "1"], [1]),
    ],
)
def test_filters_choose(file: str, tmp_path: Path, options: list[str], ids: list[int]) -> None:
    done = riskwire("dlq", "list", file, "--json", *options, cwd=tmp_path)
    assert [row["id"] for row in json.loads(done.out)] == ids


@pytest.mark.parametrize("words", [["x.db", "2"], ["2", "x.db"]])
def test_show_tells_everything_about_one(file: str, tmp_path: Path, words: list[str]) -> None:
    done = riskwire("dlq", "show", *words, cwd=tmp_path)
    for text in ("handler_failed", "queue:q", "Traceback", "attempt 5", "T2", "seq 7"):
        assert text in done.out
    assert json.loads(riskwire("dlq", "show", *words, "--json", cwd=tmp_path).out)["id"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["list", "missing.db"],
        ["list", "."],
        ["list", "junk.db"],
        ["list", "x.db", "--reason", "nonsense"],
        ["list", "x.db", "--since", "yesterday"],
        ["show", "x.db"],
        ["show", "x.db", "9"],
        ["purge", "x.db"],
        ["requeue", "x.db", "1", "--edit", "volume"],
        ["nonsense"],
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(file: str, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "junk.db").write_text("junk" * 1000)
    done = riskwire("dlq", *words, cwd=tmp_path)
    assert done.code == 2
    assert_one_line(done)


def test_export_and_purge(file: str, tmp_path: Path) -> None:
    done = riskwire("dlq", "export", file, "-o", "out.jsonl", "--json", cwd=tmp_path)
    assert json.loads(done.out)["exported"] == 2
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2]
    assert riskwire("dlq", "export", file, cwd=tmp_path).out.splitlines() == lines
    purge = ("dlq", "purge", file)
    kept = json.loads(riskwire(*purge, "--all", "--dry-run", "--json", cwd=tmp_path).out)
    assert kept == {"purged": 1, "kept": 1, "dry_run": True}
    text = riskwire(*purge, "--stage", "queue", cwd=tmp_path).out
    assert text == (
        "0 dead letters purged; 1 kept: which jobs wait behind them only their engine knows; purge there, without"
        " FILE.db, or say --force\n"
    )
    assert json.loads(riskwire(*purge, "--stage", "queue", "--force", "--json", cwd=tmp_path).out)["purged"] == 1
    assert [row["id"] for row in json.loads(riskwire("dlq", "list", file, "--json", cwd=tmp_path).out)] == [1]


# --- a running engine


CONFIG = """
[[queue]]
name = "ordered"
order_by = "account"
max_attempts = 1
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    base = f"ipc://{tmp_path}/run"
    (tmp_path / "riskwire.toml").write_text(CONFIG)
    process = start("serve", "-c", "riskwire.toml", "--base", base, "--journal", "journal", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == f"ready {base}\n"
    yield base
    process.terminate()
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def trade(trade_id: str, volume: str = "1") -> TradeExecuted:
    return TradeExecuted(trade_id, "BTC", Decimal(100), Decimal(volume), "buy", 1_700_000_000 * 10**9, account="MM1")


def dlq(engine: str, tmp_path: Path, *words: str) -> Any:
    done = riskwire("dlq", *words, "--connect", engine, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_what_failed_can_be_sent_again_until_it_succeeds_and_nothing_happens_twice(engine: str, tmp_path: Path) -> None:
    mended = threading.Event()
    seen: list[str] = []

    def handle(event: TradeExecuted, context: Any) -> None:
        if event.trade_id == "T2" and not mended.is_set():
            raise ValueError("not mended")
        seen.append(event.trade_id)

    worker = Worker("q", handle, engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with Publisher(engine, "desk") as publisher:
        for event in (trade("T1"), trade("T2"), trade("T3", "0.123456789")):
            publisher.publish(event)

    def letters() -> dict[str, Any]:
        return {row["reason"]: row for row in dlq(engine, tmp_path, "list")}

    found = wait_for(lambda: len(letters()) == 2 and letters())
    failed, precise = found["handler_failed"], found["precision"]
    assert (failed["trade_id"], failed["stage"], precise["trade_id"], precise["stage"]) == (
        "T2",
        "queue:q",
        "T3",
        "door",
    )

    assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", "--all", "--dry-run")] == ["would send"] * 2
    again = dlq(engine, tmp_path, "requeue", str(precise["id"]))
    assert [row["outcome"] for row in again] == ["refused"]
    mended_rows = dlq(engine, tmp_path, "requeue", str(precise["id"]), "--edit", "volume=0.12345678")
    assert [row["outcome"] for row in mended_rows] == ["accepted"]
    mended.set()
    assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", "--reason", "handler_failed")] == ["requeued"]
    wait_for(lambda: sorted(seen) == ["T1", "T2", "T3"])
    wait_for(
        lambda: {row["status"] for row in dlq(engine, tmp_path, "list", "--reason", "handler_failed")} == {"resolved"}
    )
    for id_ in (failed["id"], precise["id"]):
        assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", str(id_))] == ["settled"]
    assert sorted(seen) == ["T1", "T2", "T3"]
    assert dlq(engine, tmp_path, "show", str(failed["id"]))["traceback"]
    assert dlq(engine, tmp_path, "purge", "--status", "resolved")["purged"] == 2
    worker.stop()
    thread.join(60)


def test_what_is_parked_behind_a_dead_job_is_shown_kept_and_goes_on_when_that_is_sent_again_or_skipped(
    engine: str, tmp_path: Path
) -> None:
    seen: list[str] = []
    broken = {"T1", "T2"}

    def handle(event: TradeExecuted, context: Any) -> None:
        if event.trade_id in broken:
            raise ValueError("broken")
        seen.append(event.trade_id)

    worker = Worker("ordered", handle, engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with Publisher(engine, "desk") as publisher:
        for n in range(1, 6):
            publisher.publish(trade(f"T{n}"))

    def parked() -> dict[str, int]:
        return {row["trade_id"]: row["parked"] for row in dlq(engine, tmp_path, "list", "--status", "dead")}

    wait_for(lambda: parked() == {"T1": 4})
    (queue,) = json.loads(riskwire("queue", "ordered", "--json", "--connect", engine, cwd=tmp_path).out)
    assert (queue["depth"], queue["parked"], queue["parked_behind"]) == (4, 4, {"1": 4})
    assert 0 < queue["oldest_s"] < 60
    text = riskwire("dlq", "list", "--connect", engine, cwd=tmp_path).out.splitlines()
    assert text[1][: text[0].index("parked") + len("parked")].split()[-1] == "4"
    assert dlq(engine, tmp_path, "purge", "--all") == {"purged": 0, "kept": 1, "dry_run": False}
    refused = riskwire("dlq", "purge", "--all", "--force", "--connect", engine, cwd=tmp_path)
    assert (refused.code, "skip" in refused.err) == (2, True)
    broken.remove("T1")
    assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", "1")] == ["requeued"]
    wait_for(lambda: parked() == {"T2": 3})
    assert seen == ["T1"]
    (second,) = [row["id"] for row in dlq(engine, tmp_path, "list", "--status", "dead")]
    assert [row["outcome"] for row in dlq(engine, tmp_path, "skip", str(second), "--dry-run")] == ["would skip"]
    assert [row["outcome"] for row in dlq(engine, tmp_path, "skip", str(second))] == ["skipped"]
    wait_for(lambda: seen == ["T1", "T3", "T4", "T5"])
    assert [row["outcome"] for row in dlq(engine, tmp_path, "skip", str(second))] == ["settled"]
    (skipped,) = dlq(engine, tmp_path, "list", "--reason", "skipped")
    assert (skipped["trade_id"], skipped["status"], skipped["first_failure"]) == ("T2", "skipped", second)
    assert base64.b64decode(skipped["payload_base64"]) == json.dumps(skipped["event"], separators=(",", ":")).encode()
    assert dlq(engine, tmp_path, "show", str(second))["status"] == "skipped"
    assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", str(second))] == ["settled"]
    worker.stop()
    thread.join(60)


def test_a_letter_is_kept_before_anything_waits_behind_it_and_a_job_whose_letter_is_gone_can_be_skipped(
    engine: str, tmp_path: Path
) -> None:
    seen: list[str] = []

    def handle(event: TradeExecuted, context: Any) -> None:
        if event.trade_id in ("T1", "T3"):
            raise ValueError("broken")
        seen.append(event.trade_id)

    worker = Worker("ordered", handle, engine)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with Publisher(engine, "desk") as publisher:
        publisher.publish(trade("T1"))
        wait_for(lambda: dlq(engine, tmp_path, "list"))
        assert dlq(engine, tmp_path, "purge", "--all")["kept"] == 1, "nothing waits behind it yet"
        for n in range(2, 5):
            publisher.publish(trade(f"T{n}"))
    file = "journal/dead-letters.db"
    forced = riskwire("dlq", "purge", file, "--all", "--force", "--json", cwd=tmp_path)
    assert json.loads(forced.out)["purged"] == 1

    def parked() -> dict[str, int]:
        (queue,) = json.loads(riskwire("queue", "ordered", "--json", "--connect", engine, cwd=tmp_path).out)
        return queue["parked_behind"]

    def outcome(*words: str) -> str:
        (found,) = dlq(engine, tmp_path, *words)
        return found["outcome"]

    wait_for(lambda: parked() == {"1": 3})
    assert outcome("skip", "--job", "ordered:1", "--dry-run") == "would skip"
    for more in ([], ["--dry-run"]):
        assert outcome("skip", "--job", "ordered:2", *more) == "unusable", "it is parked, not dead"
    assert outcome("skip", "--job", "ordered:1") == "skipped"
    wait_for(lambda: parked() == {"3": 1})
    assert outcome("requeue", "--job", "ordered:3") == "requeued"
    wait_for(lambda: outcome("skip", "--job", "ordered:3") == "skipped")  # once it has died again
    wait_for(lambda: seen == ["T2", "T4"])
    for words in (("--job", "nobody:1"), ("--job", "ordered"), ("--job", "ordered:1", "7")):
        wrong = riskwire("dlq", "skip", *words, "--connect", engine, cwd=tmp_path)
        assert wrong.code in (1, 2)
        assert_one_line(wrong)
    worker.stop()
    thread.join(60)


def test_a_letter_left_half_sent_by_a_crash_can_be_sent_again(engine: str, tmp_path: Path) -> None:
    with Publisher(engine, "desk") as publisher:
        publisher.publish(trade("T1", "0.123456789"))
    (letter,) = wait_for(lambda: dlq(engine, tmp_path, "list"))
    with DeadLetterStore(tmp_path / "journal" / "dead-letters.db") as store:
        store.mark([letter["id"]], "requeued")  # what is written before it is sent
    again = dlq(engine, tmp_path, "requeue", str(letter["id"]), "--edit", "volume=0.5")
    assert [row["outcome"] for row in again] == ["accepted"]
    assert [row["outcome"] for row in dlq(engine, tmp_path, "requeue", str(letter["id"]))] == ["settled"]


def test_what_is_refused_again_after_an_edit_names_the_first_failure(engine: str, tmp_path: Path) -> None:
    with Publisher(engine, "desk") as publisher:
        publisher.publish(trade("T1", "0.123456789"))
    (letter,) = wait_for(lambda: dlq(engine, tmp_path, "list"))
    again = dlq(engine, tmp_path, "requeue", str(letter["id"]), "--edit", "volume=0.987654321")
    assert [row["outcome"] for row in again] == ["refused"]
    first, second = dlq(engine, tmp_path, "list")
    assert (first["first_failure"], second["first_failure"]) == (None, first["id"])
