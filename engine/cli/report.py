"""Tables for people: positions, alerts, what was refused, and what a replay did."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.output import Table, count_of, grouped, paint, print_line, print_pairs

if TYPE_CHECKING:
    from engine.events import RiskAlert

Row = Mapping[str, Any]

EXACT = Context(prec=80)
MONEY_PLACES = 2
PRICE_PLACES = 4
ALERTS_EACH_END = 5
EXAMPLE_MAX = 100
NS_PER_S = 1_000_000_000


def print_positions(rows: Sequence[Row], rows_max: int | None = None, currencies: bool = False) -> None:
    """Print position rows with totals.

    rows_max: show only the largest so many by absolute P&L, and say how many there are. currencies: say that each
    row's money is in its instrument's currency, so that the totals are only a sum of numbers.
    """
    shown = list(rows)
    if rows_max is not None and len(rows) > rows_max:
        shown = sorted(rows, key=pnl_size, reverse=True)[:rows_max]
    table = Table(
        "account", "symbol", ">quantity", ">avg price", ">last price", ">realized", ">unrealized", ">fees", ">trades"
    )
    for row in shown:
        table.add(
            row["account"],
            row["symbol"],
            grouped(row["quantity"]),
            grouped(row["avg_price"], PRICE_PLACES),
            grouped(row["last_price"], PRICE_PLACES),
            *(grouped(row[name], MONEY_PLACES) for name in ("realized_pnl", "unrealized_pnl", "fees")),
            grouped(row["trades"]),
        )
    table.total(
        "total",
        f"{len(rows):,} positions" if len(rows) != 1 else "1 position",
        *("", "", ""),
        *(grouped(total(rows, name), MONEY_PLACES) for name in ("realized_pnl", "unrealized_pnl", "fees")),
        grouped(sum(row["trades"] for row in rows)),
    )
    table.print()
    if len(shown) < len(rows):
        print_line(f"(the {len(shown)} of {len(rows):,} with the largest P&L; the total is of all)")
    if currencies:
        print_line("(money is in each instrument's currency; totals add it as it stands)")


def pnl_size(row: Row) -> Decimal:
    """Return how large a row's P&L is, either way."""
    return abs(EXACT.add(Decimal(row["realized_pnl"]), Decimal(row["unrealized_pnl"])))


def total(rows: Iterable[Row], name: str) -> Decimal:
    """Return the exact sum of a column."""
    result = Decimal(0)
    for row in rows:
        result = EXACT.add(result, Decimal(row[name]))
    return result


def print_accounts(rows: Sequence[Row]) -> None:
    """Print P&L by account, largest loss first."""
    by_account: dict[str, list[Row]] = {}
    for row in rows:
        by_account.setdefault(row["account"], []).append(row)
    table = Table("account", ">positions", ">realized", ">unrealized", ">fees", ">net", ">trades")
    sums = [(net_of(group), account, group) for account, group in by_account.items()]
    for net, account, group in sorted(sums, key=lambda entry: (entry[0], entry[1])):
        table.add(account, *account_cells(group, net))
    table.total("total", *account_cells(rows, net_of(rows)))
    table.print()


def account_cells(rows: Sequence[Row], net: Decimal) -> list[str]:
    """Return the cells of one line of the table by account."""
    money = [grouped(total(rows, name), MONEY_PLACES) for name in ("realized_pnl", "unrealized_pnl", "fees")]
    return [
        f"{len(rows):,}",
        *money,
        grouped(net, MONEY_PLACES),
        grouped(sum(row["trades"] for row in rows)),
    ]


def net_of(rows: Sequence[Row]) -> Decimal:
    """Return realized + unrealized - fees of some rows."""
    gains = EXACT.add(total(rows, "realized_pnl"), total(rows, "unrealized_pnl"))
    return EXACT.subtract(gains, total(rows, "fees"))


def alert_table() -> Table:
    """Return an empty table for alerts."""
    return Table(">no", "time", "severity", "limit", "account", "symbol", ">value", ">threshold", ">used", "trade")


def add_alert(table: Table, alert: RiskAlert) -> None:
    """Add one alert to a table."""
    table.add(
        alert.alert_no,
        time_text(alert.executed_at),
        alert.severity,
        alert.limit_id,
        alert.account,
        alert.symbol,
        grouped(alert.value),
        grouped(alert.threshold),
        percent(alert.utilization),
        alert.trade_id,
        meaning=alert.severity,
    )


def print_alert_frames(frames: Sequence[bytes], count: int) -> None:
    """Print alerts given as alert frames in order: how many of each kind, then the first and the last few."""
    from engine.alertframes import decode_alerts

    print_alert_counts(frames)
    print_line()
    first, last = decode_alerts(frames[0]), decode_alerts(frames[-1])
    if count <= 2 * ALERTS_EACH_END:
        shown = [alert for frame in frames for alert in decode_alerts(frame)]
    else:
        for frame in reversed(frames[:-1]):
            if len(last) >= ALERTS_EACH_END:
                break
            last = decode_alerts(frame) + last
        for frame in frames[1:]:
            if len(first) >= ALERTS_EACH_END:
                break
            first += decode_alerts(frame)
        shown = first[:ALERTS_EACH_END] + last[-ALERTS_EACH_END:]
    table = alert_table()
    for alert in shown:
        add_alert(table, alert)
    lines = table.lines()
    if count > len(shown):
        lines.insert(1 + ALERTS_EACH_END, paint(f"... {count - len(shown):,} more ...", "dim"))
    for line in lines:
        print_line(line)


def print_alert_counts(frames: Iterable[bytes]) -> None:
    """Print how many alerts of each kind there are, by severity, without decoding their texts."""
    import numpy as np

    from engine.alertframes import KIND_NAMES, SEVERITIES
    from ext.records import Frame

    counts = np.zeros((len(KIND_NAMES), len(SEVERITIES)), np.int64)
    for frame in frames:
        records = Frame(frame, False).records
        np.add.at(counts, (records["kind"], records["severity"]), 1)
    table = Table("alerts of kind", ">breach", ">warn", ">clear")
    for kind in np.flatnonzero(counts.sum(axis=1)).tolist():
        table.add(KIND_NAMES[kind], *(f"{counts[kind, SEVERITIES.index(name)]:,}" for name in table.titles[1:]))
    table.total("total", *(f"{counts[:, SEVERITIES.index(name)].sum():,}" for name in table.titles[1:]))
    table.print()


def print_refused(counts: Mapping[str, int], dead_letters: str | Path) -> None:
    """Print what was refused by reason, most frequent first, each with an example from the dead-letter file."""
    if not counts:
        print_line("nothing was refused")
        return
    table = Table("refused", ">count", "for example")
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add(reason, f"{count:,}", example_of(reason, dead_letters))
    table.total("total", f"{sum(counts.values()):,}", "")
    table.print()


def example_of(reason: str, dead_letters: str | Path) -> str:
    """Return where and why something was refused for a reason: the first such dead letter of a file."""
    from engine.deadletters import DeadLetterStore, LetterFilter

    with DeadLetterStore(dead_letters, read_only=True) as store:
        letters = store.list(LetterFilter(reason=reason), limit=1)
    if not letters:
        return ""
    place = f"{Path(letters[0].source).name} {letters[0].unit} {letters[0].position}: " if letters[0].unit else ""
    text = place + letters[0].error
    return text if len(text) <= EXAMPLE_MAX else text[: EXAMPLE_MAX - 3] + "..."


def print_summary(summary: Row) -> None:
    """Print what a replay did."""
    first, last = summary["first_seq"], summary["last_seq"]
    print_pairs(
        [
            ("trades read", f"{summary['trades_read']:,}"),
            ("accepted", f"{summary['accepted']:,}" + (f" (seq {first:,} to {last:,})" if first else "")),
            ("duplicates", f"{summary['duplicates']:,}"),
            ("dead letters", dead_letters_text(summary)),
            ("alerts", f"{summary['alerts']:,}"),
            ("time", f"{summary['elapsed_s']:.3f} s, {summary['trades_per_s']:,.0f} trades/s"),
        ]
    )


def dead_letters_text(summary: Row) -> str:
    """Return how many dead letters there were and, where their file stays, how to see them."""
    count = summary["dead_letters"]
    path = summary.get("dead_letters_path")
    return f"{count:,}" + (f" (riskwire dlq list {path})" if count and path else "")


def time_text(at_ns: int) -> str:
    """Return a time in UTC to the microsecond: `2023-11-14 22:13:20.000001`."""
    seconds, rest_ns = divmod(at_ns, NS_PER_S)
    try:
        at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at_ns} ns"
    return f"{at:%Y-%m-%d %H:%M:%S}.{rest_ns // 1000:06d}"


def percent(ratio: object) -> str:
    """Return a ratio as a whole percentage."""
    return f"{grouped(EXACT.multiply(Decimal(str(ratio)), Decimal(100)), 0)}%"


def interrupted_line(summary: Row) -> str:
    """Return what an interrupted replay says on stderr."""
    done = count_of(summary["trades_read"], "trade")
    return f"riskwire: interrupted after {done}; run it again to replay everything"
