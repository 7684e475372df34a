"""Known files as data: the map, and what else their columns mean.

A preset is chosen by ``format``, or by the header where that says enough. ``map`` given by the user is laid over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

BUY, SELL = 1, 2


@dataclass(frozen=True, slots=True)
class Preset:
    """A known CSV.

    ``map``: as in --map. ``header``: columns that only this format has together (empty: never guessed). ``sides``: its
    own words for buy (1) and sell (2). Prices are in units of 10**``price_shift``. ``time_unit_ns`` > 0: times are
    integers of that unit after ``time_base_ns``, or after midnight in ``timezone`` of the day in the file's name.
    ``file_name``: a pattern of the file's name (in a .zip: the member's) whose group ``date`` is that day (YYYYMMDD),
    whose groups ``symbol`` and ``expiry`` make the symbol, in capitals. ``round``: decimals to which a float column of
    a Parquet or Arrow file is rounded (nothing else is ever rounded).
    ``keep``: a column and the values with which a row is a trade; others are passed over. ``own``: a user wrote it.
    """

    map: Mapping[str, str]
    header: frozenset[str] = frozenset()
    sides: Mapping[str, int] = field(default_factory=dict)
    delimiter: str = ","
    price_shift: int = 0
    time_base_ns: int = 0
    time_unit_ns: int = 0
    file_name: str = ""
    timezone: str = ""
    round: Mapping[str, int] = field(default_factory=dict)
    keep: tuple[str, tuple[str, ...]] | None = None
    own: bool = False


PRESETS: dict[str, Preset] = {
    # https://docs.tardis.dev/downloadable-csv-files#trades
    "tardis": Preset(
        map={
            "trade_id": "id",
            "executed_at": "timestamp",
            "volume": "amount",
            "venue": "exchange",
        },
        header=frozenset({"exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"}),
    ),
    # Kraken's time-and-sales dumps: no header, one file a pair; https://support.kraken.com (downloadable history)
    "kraken": Preset(
        map={"executed_at": "1", "price": "2", "volume": "3", "venue": "=kraken"},
        file_name=r"(?P<symbol>[^.]+)",
    ),
    # NYSE TAQ trades as R's highfrequency and WRDS export them; no aggressor side, no ids. CORR 0 is a regular trade,
    # 1 and 2 one with corrected values; 7, 8, 10, 11, 12 are cancelled trades, errors and what cancels or corrects.
    "taq": Preset(
        map={"executed_at": "DT", "venue": "EX", "symbol": "SYMBOL", "volume": "SIZE", "price": "PRICE"},
        header=frozenset({"DT", "EX", "SYMBOL", "SIZE", "PRICE"}),
        keep=("CORR", ("", "0", "1", "2", "00", "01", "02")),
    ),
    # https://github.com/binance/binance-public-data: spot trades without a header; the maker's side is the buyer's
    "binance-trades": Preset(
        map={"trade_id": "1", "price": "2", "volume": "3", "executed_at": "5", "side": "6", "venue": "=binance"},
        sides={"True": SELL, "true": SELL, "False": BUY, "false": BUY},
        file_name=r"(?P<symbol>[A-Za-z0-9]+)",
    ),
    "binance-aggtrades": Preset(
        map={"trade_id": "1", "price": "2", "volume": "3", "executed_at": "6", "side": "7", "venue": "=binance"},
        sides={"True": SELL, "true": SELL, "False": BUY, "false": BUY},
        file_name=r"(?P<symbol>[A-Za-z0-9]+)",
    ),
    # Binance spot trades as nautilus_trader keeps them in Parquet. Floats with the noise of their arithmetic: Binance
    # counts in 1e-8 at the finest.
    "binance-parquet": Preset(
        map={"executed_at": "timestamp", "volume": "quantity", "side": "buyer_maker", "venue": "=binance"},
        header=frozenset({"timestamp", "trade_id", "price", "quantity", "buyer_maker"}),
        sides={"True": SELL, "true": SELL, "False": BUY, "false": BUY},
        file_name=r"(?P<symbol>[A-Za-z0-9]+)",
        round={"price": 8, "volume": 8},
    ),
    # https://www.quantconnect.com/docs (US equity ticks, from AlgoSeek): milliseconds of the day in New York, prices in
    # units of 1/10000; no aggressor side, no ids, and equal rows are different trades
    "lean-equity": Preset(
        map={"executed_at": "1", "price": "2", "volume": "3", "venue": "4"},
        file_name=r"(?P<date>\d{8})_(?P<symbol>[a-z.]+)_Trade_Tick",
        timezone="America/New_York",
        time_unit_ns=10**6,
        price_shift=-4,
    ),
    # Lean futures ticks: the same with plain prices, one file a contract
    "lean-future": Preset(
        map={"executed_at": "1", "price": "2", "volume": "3", "venue": "4"},
        file_name=r"(?P<date>\d{8})_(?P<symbol>[a-z0-9]+)_tick_trade_(?P<expiry>\d+)",
        timezone="America/New_York",
        time_unit_ns=10**6,
    ),
}


def fit_to_name(preset: Preset, name: str) -> tuple[Preset, str]:
    """The preset with its day found in a file's name, and the symbol the name gives ("" where it gives none).

    Raises ValueError where the name is not of the preset's pattern, or its time zone is not known.
    """
    if not preset.file_name:
        return preset, ""
    found = re.match(preset.file_name, name)
    if found is None:
        raise ValueError(f"its name is not of the form {preset.file_name}")
    groups = found.groupdict()
    symbol = (groups.get("symbol", "") + groups.get("expiry", "")).upper()
    if not preset.timezone:
        return preset, symbol
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        zone = ZoneInfo(preset.timezone)
    except ZoneInfoNotFoundError as error:
        raise ValueError(f"the system knows no time zone {preset.timezone}: {error}") from None
    midnight = datetime.strptime(groups["date"], "%Y%m%d").replace(tzinfo=zone)
    return replace(preset, time_base_ns=int(midnight.timestamp()) * 10**9), symbol


def preset_of_header(columns: set[str]) -> str | None:
    """The preset whose columns a header has; None where it is none's."""
    for name, preset in PRESETS.items():
        if preset.header and preset.header <= columns:
            return name
    return None
