"""The synthetic session: what it says it planted is what is in it, byte for byte the same each time."""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from feed_rows import Row, read_rows

from feeds.samples import SAMPLE_INSTRUMENTS, SAMPLE_LIMITS
from feeds.synthetic import SyntheticSession, account_names, symbol_names, synthetic_session


def session_of(tmp_path: Path, trades: int = 20_000, **options: int) -> tuple[SyntheticSession, list[Row]]:
    path = tmp_path / "session.csv"
    made = synthetic_session(path, trades=trades, **options)
    return made, read_rows(path)


def identity(row: Row) -> tuple[str, ...]:
    return (row.venue, row.account, row.symbol, row.side, row.exec_type, row.id)


def test_the_counts_are_those_of_the_file(tmp_path: Path) -> None:
    made, rows = session_of(tmp_path)
    assert made.rows == len(rows) == made.accepted + made.duplicates + made.dead_letters
    reasons = Counter(row.reason for row in rows if row.reason)
    assert reasons == {"undecodable": made.undecodable, "invalid": made.invalid}
    good = [row for row in rows if not row.reason]
    known: dict[tuple[str, ...], Row] = {}
    found: Counter[str] = Counter()
    for row in good:
        first = known.setdefault(identity(row), row)
        if first is row:
            too_fine = -int(row.price.as_tuple().exponent) > 9
            found[
                "precision" if too_fine else "overflow" if row.price > 10**9 or row.volume > 10**9 else row.exec_type
            ] += 1
        else:
            found["duplicate" if first.raw == row.raw else "conflict"] += 1
    assert found == {
        "new": made.trades, "duplicate": made.duplicates, "conflict": made.conflicts, "bust": made.busts,
        "correct": made.corrects, "precision": made.precision, "overflow": made.overflow,
    }  # fmt: skip


def test_busts_and_corrects_name_a_live_earlier_trade_once(tmp_path: Path) -> None:
    _, rows = session_of(tmp_path)
    live = set()
    for row in rows:
        name = (row.venue, row.account, row.symbol, row.side)
        if row.exec_type == "new":
            live.add((*name, row.id))
        elif row.exec_type in ("bust", "correct"):
            live.remove((*name, row.ref))


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    synthetic_session(one, trades=2000)
    synthetic_session(two, trades=2000)
    synthetic_session(three, trades=2000, seed=8)
    assert one.read_bytes() == two.read_bytes() != three.read_bytes()


def test_good_trades_are_in_the_order_of_their_times_and_inside_the_session(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    made = synthetic_session(path, trades=5000)
    seen: set[tuple[str, ...]] = set()
    times = []
    for row in read_rows(path):
        if row.exec_type == "new" and row.price < 10**6 and row.volume < 10**6 and identity(row) not in seen:
            seen.add(identity(row))
            if not row.id.startswith("P"):
                times.append(row.executed_at)
    assert len(times) == made.trades
    assert times == sorted(times)
    assert len(set(times)) < len(times), "equal times are the rule on real tapes"


def test_popularity_falls_off_and_everybody_trades(tmp_path: Path) -> None:
    made, rows = session_of(tmp_path)
    symbols = Counter(row.symbol for row in rows if row.symbol)
    assert len(symbols) == 50
    assert symbols.most_common()[0][1] > 20 * symbols.most_common()[-1][1]
    accounts = {row.account for row in rows if row.account}
    assert accounts == set(account_names(20))
    assert made.rogue in accounts


def test_the_rogue_ends_far_beyond_everybody_else(tmp_path: Path) -> None:
    made, rows = session_of(tmp_path, trades=60_000)
    position: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.exec_type == "new" and row.volume < 10**6:
            position[row.account, row.symbol] += int(row.volume) * (1 if row.side == "buy" else -1)
    (first, size), (_, second) = sorted(position.items(), key=lambda item: -abs(item[1]))[:2]
    assert first[0] == made.rogue
    assert size > 10 * abs(second)


@pytest.mark.parametrize(("symbols", "accounts"), [(3, 3), (60, 7), (1000, 100)])
def test_other_sizes(tmp_path: Path, symbols: int, accounts: int) -> None:
    made, rows = session_of(tmp_path, trades=3000, symbols=symbols, accounts=accounts)
    assert len(rows) == made.rows
    assert len(set(symbol_names(symbols))) == symbols
    assert len(set(account_names(accounts))) == accounts


def test_too_small_a_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1000 trades"):
        synthetic_session(tmp_path / "x", trades=10)


def test_the_samples_are_readable_and_fit_the_session() -> None:
    limits = tomllib.loads(SAMPLE_LIMITS)["limit"]
    assert len({limit["id"] for limit in limits}) == len(limits)
    instruments = list(csv.DictReader(SAMPLE_INSTRUMENTS.splitlines()))
    assert {row["symbol"] for row in instruments} - {"*"} <= set(symbol_names(50))
