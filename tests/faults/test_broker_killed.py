"""`kill -9` of the broker at any instant loses no acked event and applies none twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from engine.codec import EventDecoder
from engine.endpoints import prepare_base
from engine.events import TradeExecuted
from engine.journal import journal_info, read_frames
from engine.publisher import Publisher
from ext.encoder import EventEncoder
from ext.records import Frame

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


class Killable:
    """A broker's process that can be killed and started again."""

    def __init__(self, base: str, directory: Path, sync: str, *more: str) -> None:
        self.arguments = [
            sys.executable,
            str(Path(__file__).with_name("broker_process.py")),
            base,
            str(directory),
            sync,
            *more,
        ]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(self.arguments, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(WAIT_S)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture(params=["os", "group"])
def broker(request, tmp_path) -> Iterator[tuple[Killable, str, Path]]:
    base = f"ipc://{tmp_path / 'base'}"
    prepare_base(base)
    killable = Killable(base, tmp_path / "journal", request.param)
    yield killable, base, tmp_path / "journal"
    killable.end()


def trade(number: int) -> TradeExecuted:
    return TradeExecuted(
        f"T{number}", f"S{number % 11}", Decimal(number), Decimal(1), "buy", 1_000 + number, account=f"A{number % 3}"
    )


def journaled(directory: Path) -> list[TradeExecuted]:
    decoder = EventDecoder()
    return [event for data in read_frames(directory) for _, event in decoder.decode_all(Frame(data))]


def test_nothing_acked_is_lost_and_nothing_counted_twice(broker):
    process, base, directory = broker
    process.start()
    random.seed(7)
    publisher = Publisher(base, "test", wait_s=WAIT_S)
    encoder = EventEncoder()
    sent = 0
    kills = {random.randrange(400) for _ in range(6)}
    for turn in range(400):
        for _ in range(random.randrange(1, 40)):
            sent += 1
            encoder.add(trade(sent))
        publisher.publish_frame(encoder.finish())
        if turn in kills:
            acked = publisher.stats.acked
            process.end()
            # Whatever was acked lies in the journal of the dead process, in order and once.
            assert journaled(directory)[:acked] == [trade(number) for number in range(1, acked + 1)]
            process.start()
    publisher.close()
    assert publisher.stats.acked == sent
    process.end(signal.SIGTERM)
    assert journaled(directory) == [trade(number) for number in range(1, sent + 1)]
    assert journal_info(directory).sealed
