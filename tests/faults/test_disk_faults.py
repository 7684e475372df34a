"""Each sync and write that can fail, failing: acks stop, the reason is said; after a failed sync none ever comes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.events import TradeExecuted
from engine.journal import journal_info
from engine.publisher import Publisher

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
EVENTS = 21_000

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        COMPILER is None or not sys.platform.startswith("linux"), reason="needs a C compiler and LD_PRELOAD"
    ),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    shim = tmp_path_factory.mktemp("shim") / "disk_faults.so"
    build = [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(shim), str(HERE / "disk_faults.c"), "-ldl"]
    subprocess.run(build, check=True)
    return shim


@pytest.fixture(scope="module")
def cases(shim, tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("faults")
    done = subprocess.run(
        [sys.executable, str(HERE / "disk_fault_cases.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def hit(cases: list[dict[str, Any]], call: str, snapshot: bool = False) -> list[dict[str, Any]]:
    """Return the cases in which the call was made to fail, at least one."""
    found = [case for case in cases if case["call"] == call and bool(case.get("snapshot")) == snapshot]
    found = [case for case in found if case["left"] == 0]
    assert found
    return found


def test_after_a_failed_sync_nothing_is_acked_any_more(cases):
    syncs = [case for call in ("fdatasync", "fsync") for case in hit(cases, call) if case["sync"] == "group"]
    assert len(syncs) >= 7
    at_work = [case for case in syncs if case["said"]]
    assert len(at_work) >= 7
    for case in at_work:
        assert "a sync failed: Input/output error; nothing is acked any more" in case["trouble"]
        assert case["acked"] == case["at_failure"] < EVENTS
        assert case["sync_failed"]
        assert not case["sealed"]  # it is no clean end
        assert case["last_seq"] >= case["acked"]
    for case in syncs:
        if not case["said"]:  # the last sync, of the seal
            assert "Input/output error" in case["closing"]


def test_without_room_acks_stop_and_go_on_when_there_is_some(cases):
    for case in hit(cases, "posix_fallocate"):
        (said,) = case["said"]
        assert "nothing is acked until there is room" in said
        assert ("No space left" if case["sync"] == "os" else "Input/output error") in said
        assert case["at_failure"] < EVENTS
        assert case["acked"] == case["last_seq"] == EVENTS
        assert case["trouble"] == ""
        assert case["sealed"]


def test_a_segment_that_cannot_be_cut_to_size_loses_nothing(cases):
    for case in hit(cases, "ftruncate"):
        assert case["acked"] == case["last_seq"] == EVENTS
        assert case["said"] == []


def test_a_snapshot_is_there_whole_or_not_at_all(cases):
    for case in hit(cases, "write", snapshot=True):
        if case["short"]:
            assert (case["problem"], case["taken"]) == ("", 1)
        else:
            assert case["problem"] in ("[Errno 28] No space left on device", "[Errno 5] Input/output error")
            assert case["taken"] == 0
        assert case["tmp"] == 0
    failed = [case for case in hit(cases, "fsync", snapshot=True) if case["nth"] == 1]
    assert [case["taken"] for case in failed] == [0]


def serve(folder: Path, **environment: str) -> subprocess.Popen[str]:
    words = ["serve", "--base", f"ipc://{folder}/rw", "--journal", "journal", "--sync", "group"]
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from engine.cli.main import main; sys.exit(main())", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_engine_ends_after_a_failed_sync_and_the_next_one_gets_what_was_not_acked(shim, tmp_path):
    failing = serve(tmp_path, LD_PRELOAD=str(shim), RW_FAULT="fdatasync 6 1 5 .rwj")
    assert failing.stdout is not None
    assert failing.stdout.readline().startswith("ready ")
    with Publisher(f"ipc://{tmp_path}/rw", "p", wait_s=60) as publisher:
        number = 0
        while failing.poll() is None and number < 2000:
            publisher.publish(trade(number))
            number += 1
            publisher.poll()
            time.sleep(0.01)
        _, said = failing.communicate()
        assert failing.returncode == 1
        assert "a sync failed: Input/output error; nothing is acked any more" in said.splitlines()[-1]
        acked = publisher.stats.acked
        assert acked < number
        assert not journal_info(tmp_path / "journal").sealed
        assert journal_info(tmp_path / "journal").last_seq >= acked
        good = serve(tmp_path)
        assert good.stdout is not None
        assert good.stdout.readline().startswith("ready ")
        publisher.flush(60)
    good.terminate()
    good.communicate()
    assert journal_info(tmp_path / "journal").last_seq == number


def trade(number: int) -> TradeExecuted:
    return TradeExecuted(f"T{number}", "ABC", Decimal(10), Decimal(1), "buy", number, account="A")
