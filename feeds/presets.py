"""Known files as data: the map, and what else their columns mean.

A preset is chosen by ``format``, or by the header where that says enough. ``map`` given by the user is laid over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BUY, SELL = 1, 2


@dataclass(frozen=True, slots=True)
class Preset:
    """A known CSV.

    ``map``: as in --map. ``header``: columns that only this format has together (empty: never guessed). ``sides``: its
    own words for buy (1) and sell (2). Prices are in units of 10**``price_shift``. ``time_unit_ns`` > 0: times are
    integers of that unit after ``time_base_ns``. ``stem_symbol``: the file's name without endings is the symbol.
    """

    map: Mapping[str, str]
    header: frozenset[str] = frozenset()
    sides: Mapping[str, int] = field(default_factory=dict)
    delimiter: str = ","
    price_shift: int = 0
    time_base_ns: int = 0
    time_unit_ns: int = 0
    stem_symbol: bool = False


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
        stem_symbol=True,
    ),
    # NYSE TAQ trades as R's highfrequency and WRDS export them; no aggressor side, no ids
    "taq": Preset(
        map={"executed_at": "DT", "venue": "EX", "symbol": "SYMBOL", "volume": "SIZE", "price": "PRICE"},
        header=frozenset({"DT", "EX", "SYMBOL", "SIZE", "PRICE"}),
    ),
    # https://github.com/binance/binance-public-data: spot trades without a header; the maker's side is the buyer's
    "binance-trades": Preset(
        map={"trade_id": "1", "price": "2", "volume": "3", "executed_at": "5", "side": "6", "venue": "=binance"},
        sides={"True": SELL, "true": SELL, "False": BUY, "false": BUY},
        stem_symbol=True,
    ),
    "binance-aggtrades": Preset(
        map={"trade_id": "1", "price": "2", "volume": "3", "executed_at": "6", "side": "7", "venue": "=binance"},
        sides={"True": SELL, "true": SELL, "False": BUY, "false": BUY},
        stem_symbol=True,
    ),
}


def preset_of_header(columns: set[str]) -> str | None:
    """The preset whose columns a header has; None where it is none's."""
    for name, preset in PRESETS.items():
        if preset.header and preset.header <= columns:
            return name
    return None
