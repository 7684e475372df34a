"""A trading session of riskwire's own: what ``riskwire demo`` replays, and load for tests.

Fifty symbols with Zipf popularity and random-walk prices, market makers, funds and prop desks on four venues; times
with a busy open and close, bursts and a lull; ids that exchanges number per symbol, with gaps. Planted in it: repeated
rows, rows that contradict an earlier one, unreadable rows, busts and corrects, and one trader who late in the day
doubles down until he has run through every limit he has. The same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feeds.samples import SAMPLE_INSTRUMENTS, SAMPLE_LIMITS, SYMBOLS

__all__ = ["SAMPLE_INSTRUMENTS", "SAMPLE_LIMITS", "SyntheticSession", "synthetic_session"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HEADER = b"trade_id,symbol,price,volume,side,executed_at,account,venue,strategy,fee,exec_type,ref_trade_id\n"
OPEN_NS = 1_767_623_400_000_000_000  # 2026-01-05 14:30 UTC
SESSION_NS = 23_400 * 10**9
VENUES = ("XNAS", "XNYS", "ARCX", "BATS")
STRATEGIES = {"MM": ("quote", "hedge"), "FUND": ("vwap", "twap", ""), "PROP": ("stat-arb", "momentum", "")}
ROGUE_FROM, ROGUE_TO = 0.80, 0.97  # of the session
ROGUE_SYMBOL = 2  # by popularity
ROGUE_TRADES_MAX = 600
ROGUE_LAST_STAND = 120  # trades in a row, within a second or two
ROGUE_FALL = 0.12  # of the price, from then to the close


@dataclass(frozen=True, slots=True)
class SyntheticSession:
    """What was planted, so that a replay can be held against it."""

    path: str
    rows: int
    """Data rows of the file, all of them."""
    trades: int
    """Distinct good trades."""
    duplicates: int
    conflicts: int
    undecodable: int
    invalid: int
    precision: int
    overflow: int
    busts: int
    corrects: int
    rogue: str
    """The account of the trader who runs through his limits."""

    @property
    def accepted(self) -> int:
        return self.trades + self.busts + self.corrects

    @property
    def dead_letters(self) -> int:
        return self.conflicts + self.undecodable + self.invalid + self.precision + self.overflow


@dataclass(slots=True)
class Trades:
    """Columns of the good trades, in the order of their times."""

    symbol: Ints
    account: Ints
    venue: Ints
    strategy: list[str]
    side: Ints  # 1 buy, -1 sell
    price: Ints  # cents
    volume: Ints
    fee: Ints  # 1e-4
    executed_at: Ints
    number: Ints  # trade id, per symbol


def synthetic_session(
    path: str | Path, trades: int = 300_000, symbols: int = 50, accounts: int = 20, seed: int = 7
) -> SyntheticSession:
    """Write a session as canonical CSV and return what was planted in it.

    ``trades``: distinct good trades (at least 1,000), ``symbols`` and ``accounts``: at least 3. About 1.3 % more rows
    are planted on top. Raises ValueError for smaller numbers and OSError where the file cannot be written.
    """
    if trades < 1000 or symbols < 3 or accounts < 3:
        raise ValueError(
            f"a session has at least 1000 trades, 3 symbols and 3 accounts, not {trades}, {symbols}, {accounts}"
        )
    random = np.random.default_rng(seed)
    names = symbol_names(symbols)
    desks = account_names(accounts)
    made = make_trades(random, trades, names, desks)
    lines = trade_lines(made, names, desks)
    planted = Planted(random, made, names, desks, lines)
    counts = planted.plant()
    with Path(path).open("wb") as file:
        file.write(HEADER)
        file.writelines(planted.in_order())
    return SyntheticSession(path=str(path), rows=trades + planted.count, trades=trades, rogue=desks[-1], **counts)


def symbol_names(count: int) -> list[str]:
    return [*SYMBOLS[:count], *(f"SYN{i:04d}" for i in range(len(SYMBOLS), count))]


def account_names(count: int) -> list[str]:
    """Two fifths market makers, two fifths funds, the rest prop desks; the last one is the rogue."""
    makers = max(1, count * 2 // 5)
    funds = max(1, count * 2 // 5)
    kinds = ["MM"] * makers + ["FUND"] * funds + ["PROP"] * (count - makers - funds)
    return [f"{kind}{kinds[: i + 1].count(kind):02d}" for i, kind in enumerate(kinds)]


# --- the good trades ---------------------------------------------------------------------------------------------


def make_trades(random: np.random.Generator, count: int, names: list[str], desks: list[str]) -> Trades:
    """Ordinary trading by everybody, and the rogue's run laid over it."""
    rogue_count = min(ROGUE_TRADES_MAX, count // 100)
    executed_at = session_times(random, count)
    symbol = zipf_choice(random, len(names), count, 1.1)
    account = zipf_choice(random, len(desks) - 1, count, 0.6)
    rogue = rogue_rows(random, executed_at, rogue_count)
    symbol[rogue], account[rogue] = ROGUE_SYMBOL, len(desks) - 1
    price = price_paths(random, symbol, executed_at, len(names))
    let_fall(price, symbol, executed_at)
    side = balanced_sides(random, account * len(names) + symbol)
    volume = random.choice(np.array([1, 10, 50, 100, 100, 100, 200, 300]), count)
    run_amok(random, rogue, side, volume, price)
    fee = price * volume // 50  # two basis points, in 1e-4
    maker = np.array([desk.startswith("MM") for desk in desks])[account]
    fee = np.where(maker, -(fee // 4), fee)
    number = exchange_numbers(random, symbol, len(names))
    return Trades(
        symbol, account, random.integers(0, len(VENUES), count), strategies(random, account, desks),
        side, price, volume, fee, executed_at, number,
    )  # fmt: skip


def session_times(random: np.random.Generator, count: int) -> Ints:
    """Times (ns), ascending: a busy open and close, bursts of a thousand times the rate, a lull, some equal."""
    position = np.linspace(0.0, 1.0, count)
    gaps = random.exponential(1.0, count) * (0.35 + 2.6 * position * (1.0 - position))
    for start in random.integers(0, count, max(1, count // 6000)):
        gaps[start : start + int(random.integers(20, 200))] *= 0.001
    gaps[random.random(count) < 0.05] = 0.0
    gaps[int(count * 0.55)] += gaps.sum() * 0.02
    times = np.cumsum(gaps)
    scaled: Ints = OPEN_NS + (times * (SESSION_NS / times[-1])).astype(np.int64)
    return scaled


def zipf_choice(random: np.random.Generator, size: int, count: int, exponent: float) -> Ints:
    weights = 1.0 / np.arange(1, size + 1) ** exponent
    return random.choice(size, count, p=weights / weights.sum()).astype(np.int64)


def rogue_rows(random: np.random.Generator, executed_at: Ints, count: int) -> Ints:
    """Which trades are the rogue's: late, more and more of them, and in the end all there are, faster than anybody."""
    first = int(np.searchsorted(executed_at, OPEN_NS + int(SESSION_NS * ROGUE_FROM)))
    last = int(np.searchsorted(executed_at, OPEN_NS + int(SESSION_NS * ROGUE_TO)))
    stand = min(ROGUE_LAST_STAND, count // 3)
    end = executed_at[last - stand : last]
    end[:] = end[0] + (end - end[0]) // 8
    spread = (np.sqrt(random.random(count - stand)) * (last - stand - first)).astype(np.int64)
    chosen: Ints = np.concatenate([first + np.unique(spread), np.arange(last - stand, last)])
    return chosen


def price_paths(random: np.random.Generator, symbol: Ints, executed_at: Ints, symbols: int) -> Ints:
    """Prices in cents: a random walk per symbol whose steps grow with the square root of the time between trades."""
    starts = np.exp(random.uniform(np.log(8.0), np.log(400.0), symbols))
    volatility = random.uniform(0.008, 0.025, symbols)  # of a session
    price = np.empty(len(symbol), dtype=np.int64)
    for number in range(symbols):
        rows = np.flatnonzero(symbol == number)
        gaps = np.diff(executed_at[rows], prepend=executed_at[rows[:1]] if len(rows) else 0)
        steps = random.standard_normal(len(rows)) * volatility[number] * np.sqrt(gaps / SESSION_NS)
        spread = random.integers(-1, 2, len(rows))
        price[rows] = np.maximum(1, (starts[number] * 100.0 * np.exp(np.cumsum(steps))).astype(np.int64) + spread)
    return price


def let_fall(price: Ints, symbol: Ints, executed_at: Ints) -> None:
    """The rogue's symbol falls while he buys, and goes on falling."""
    progress = ((executed_at - OPEN_NS) / SESSION_NS - ROGUE_FROM) / (1.0 - ROGUE_FROM)
    rows = symbol == ROGUE_SYMBOL
    fallen = price[rows] * (1.0 - ROGUE_FALL * np.clip(progress[rows], 0.0, 1.0))
    price[rows] = np.maximum(1, fallen.astype(np.int64))


def balanced_sides(random: np.random.Generator, cell: Ints) -> Ints:
    """Sides that keep inventories in bounds: of each eight trades of a cell four buy and four sell."""
    order = np.argsort(cell, kind="stable")
    blocks = np.tile(np.array([1, 1, 1, 1, -1, -1, -1, -1]), len(cell) // 8 + 1).reshape(-1, 8)
    side = np.empty(len(cell), dtype=np.int64)
    side[order] = random.permuted(blocks, axis=1).reshape(-1)[: len(cell)]
    return side


def run_amok(random: np.random.Generator, rogue: Ints, side: Ints, volume: Ints, price: Ints) -> None:
    """The rogue buys, in growing size, and some of his last prints are far above the market."""
    progress = np.linspace(0.0, 1.0, len(rogue))
    side[rogue] = np.where(random.random(len(rogue)) < 0.92, 1, -1)
    volume[rogue] = 100 + (progress**2 * 2400).astype(np.int64) // 100 * 100
    off = rogue[-8::2]
    price[off] = (price[off] * 1.1).astype(np.int64)


def strategies(random: np.random.Generator, account: Ints, desks: list[str]) -> list[str]:
    choices = [STRATEGIES[desk.rstrip("0123456789")] for desk in desks]
    picks = random.integers(0, 6, len(account))
    return [choices[a][p % len(choices[a])] for a, p in zip(account.tolist(), picks.tolist(), strict=True)]


def exchange_numbers(random: np.random.Generator, symbol: Ints, symbols: int) -> Ints:
    """Trade ids: ascending per symbol, with a gap now and then."""
    number = np.empty(len(symbol), dtype=np.int64)
    steps = np.where(random.random(len(symbol)) < 0.01, random.integers(2, 9, len(symbol)), 1)
    for which in range(symbols):
        rows = np.flatnonzero(symbol == which)
        number[rows] = 1000 + np.cumsum(steps[rows])
    return number


# --- rows --------------------------------------------------------------------------------------------------------


def cents(value: int) -> str:
    return f"{value // 100}.{value % 100:02d}"


def fee_text(value: int) -> str:
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 10_000}.{abs(value) % 10_000:04d}"


def trade_lines(made: Trades, names: list[str], desks: list[str]) -> list[bytes]:
    columns: tuple[list[Any], ...] = (
        made.number.tolist(), made.symbol.tolist(), made.price.tolist(), made.volume.tolist(), made.side.tolist(),
        made.executed_at.tolist(), made.account.tolist(), made.venue.tolist(), made.strategy, made.fee.tolist(),
    )  # fmt: skip
    return [
        f"{number},{names[symbol]},{price // 100}.{price % 100:02d},{volume},{'buy' if side > 0 else 'sell'},{at},"
        f"{desks[account]},{VENUES[venue]},{strategy},{fee_text(fee)},,\n".encode()
        for number, symbol, price, volume, side, at, account, venue, strategy, fee in zip(*columns, strict=True)
    ]


class Planted:
    """Rows laid between the good ones: each is written some rows behind the trade it belongs to."""

    def __init__(
        self,
        random: np.random.Generator,
        made: Trades,
        names: list[str],
        desks: list[str],
        lines: list[bytes],
    ) -> None:
        self.random = random
        self.made = made
        self.names = names
        self.desks = desks
        self.lines = lines
        self.count = 0
        self._behind: dict[int, list[bytes]] = {}

    def plant(self) -> dict[str, int]:
        """Plant everything; how many of each."""
        size = len(self.lines)
        ordinary = np.flatnonzero(self.made.account != len(self.desks) - 1)
        share = {"duplicates": 100, "conflicts": 10_000, "busts": 2000, "corrects": 2000}
        bad = {"undecodable": 12, "invalid": 12, "precision": 6, "overflow": 6}
        wanted = {name: max(2, size // divisor) for name, divisor in share.items()} | bad
        # Each trade is used once, so that a bust never names a trade that another has replaced.
        chosen = self.random.choice(ordinary, sum(wanted.values()), replace=False).tolist()
        writers: dict[str, Callable[[int, int], bytes]] = {
            "duplicates": lambda row, _: self.lines[row],
            "conflicts": lambda row, _: self.row(row, volume=str(int(self.made.volume[row]) + 1)),
            "busts": lambda row, _: self.later(row, "bust"),
            "corrects": lambda row, _: self.later(row, "correct", volume=str(int(self.made.volume[row]) + 5)),
            "undecodable": self.undecodable,
            "invalid": self.invalid,
            "precision": lambda row, _: self.row(row, id=f"P{row}", price="100.000000000001"),
            "overflow": lambda row, i: self.row(
                row, id=f"O{row}", **({"price": "1e400"} if i % 2 else {"volume": "1e20"})
            ),
        }
        for name, writer in writers.items():
            for i in range(wanted[name]):
                row = chosen.pop()
                self._put(row, writer(row, i))
        return wanted

    def _put(self, row: int, line: bytes) -> None:
        behind = min(row + int(self.random.integers(1, 400)), len(self.lines) - 1)
        self._behind.setdefault(behind, []).append(line)
        self.count += 1

    def row(self, i: int, **changes: str) -> bytes:
        """The row of trade ``i`` with other cells."""
        made = self.made
        cells = {
            "id": str(int(made.number[i])),
            "symbol": self.names[int(made.symbol[i])],
            "price": cents(int(made.price[i])),
            "volume": str(int(made.volume[i])),
            "side": "buy" if made.side[i] > 0 else "sell",
            "at": str(int(made.executed_at[i])),
            "account": self.desks[int(made.account[i])],
            "venue": VENUES[int(made.venue[i])],
            "strategy": made.strategy[i],
            "fee": fee_text(int(made.fee[i])),
            "exec_type": "",
            "ref": "",
        }
        return (",".join((cells | changes).values()) + "\n").encode()

    def later(self, row: int, exec_type: str, **changes: str) -> bytes:
        """A bust or correct of trade ``row``, a second after it."""
        at = str(int(self.made.executed_at[row]) + 10**9)
        ref = str(int(self.made.number[row]))
        return self.row(row, id=f"{exec_type[0].upper()}{ref}", at=at, exec_type=exec_type, ref=ref, **changes)

    def undecodable(self, row: int, i: int) -> bytes:
        line = self.row(row, id=f"U{row}")
        kinds = (
            line.replace(b",", b";", 1),  # a field too few
            line[:-1] + b",?\n",  # one too many
            line.replace(b",", b',"', 1),  # a quote that never closes
            line.replace(b",", b"\xff\xfe,", 1),  # no UTF-8
        )
        return kinds[i % len(kinds)]

    def invalid(self, row: int, i: int) -> bytes:
        kinds = (
            {"volume": f"-{int(self.made.volume[row])}"},
            {"price": "NaN"},
            {"volume": "1_000"},
            {"side": "hold"},
            {"at": "yesterday"},
            {"symbol": ""},
        )
        return self.row(row, **{"id": f"I{row}", **kinds[i % len(kinds)]})

    def in_order(self) -> list[bytes]:
        """All rows of the file."""
        rows: list[bytes] = []
        start = 0
        for behind in sorted(self._behind):
            rows += self.lines[start : behind + 1]
            rows += self._behind[behind]
            start = behind + 1
        return rows + self.lines[start:]
