"""Settings files are read strictly, and every error names the place and what was expected."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.config import (
    ConfigError,
    InstrumentsError,
    LimitsError,
    check_currencies,
    limits_event_id,
    load_config,
    load_instruments,
    load_limits,
    load_opening,
    parse_age,
    parse_duration,
    parse_limits,
    parse_size,
)

POSITION = {"id": "btc", "kind": "max_position", "per": ["account", "symbol"], "threshold": "100"}


def limit(**changes: Any) -> dict[str, Any]:
    row = {**POSITION, **changes}
    return {key: value for key, value in row.items() if value is not None}


def refused(*rows: dict[str, Any], settings: object = None) -> str:
    obj: dict[str, Any] = {"limit": list(rows)}
    if settings is not None:
        obj["settings"] = settings
    with pytest.raises(LimitsError) as caught:
        parse_limits(obj, where="limits.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_example_of_the_design_is_read_with_every_default(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(
        """
        [settings]
        base_currency = "USD"
        revalue_every = "100ms"
        [settings.fx]
        EUR = "1.080"
        [[limit]]
        id = "btc-position"
        kind = "max_position"
        per = ["symbol", "account"]
        match = { symbol = "BTCUSDT", account = "MM*" }
        threshold = "1e2"
        warn_at = 0.8
        clear_at = 0.7
        action = "kill"
        """
    )
    limits = load_limits(path)
    assert json.loads(limits.to_json()) == {
        "settings": {"base_currency": "USD", "revalue_every_ns": 100_000_000, "fx": {"EUR": "1.08"}},
        "limit": [
            {
                "id": "btc-position",
                "kind": "max_position",
                "per": ["account", "symbol"],
                "match": {"account": "MM*", "symbol": "BTCUSDT"},
                "threshold": "100",
                "warn_at": "0.8",
                "clear_at": "0.7",
                "window_ns": None,
                "floor": "0",
                "action": "kill",
                "kill_scope": "account",
            }
        ],
    }


def test_the_canonical_form_reads_back_as_itself() -> None:
    limits = parse_limits(
        {
            "settings": {"revalue_every": "250us", "fx": {"JPY": "0.0067", "EUR": "1.1", "USD": "1"}},
            "limit": [
                limit(),
                {"id": "r", "kind": "restricted", "match": {"symbol": "GME"}},
                {"id": "t", "kind": "trade_rate", "threshold": "5", "window": "1s", "warn_at": 1},
                {"id": "c", "kind": "concentration", "threshold": "25", "floor": "10000"},
                {"id": "w", "kind": "repeated_trade", "threshold": "3", "window": "10m", "action": "kill"},
            ],
        }
    )
    again = parse_limits(json.loads(limits.to_json()))
    assert again == limits
    assert again.to_json() == limits.to_json()
    assert limits.limit[3].per == ("account", "symbol")
    assert limits.limit[2].warn_at == "1"
    assert limits.settings.fx == {"EUR": "1.1", "JPY": "0.0067"}


def test_an_empty_set_is_a_set() -> None:
    assert parse_limits({}).limit == ()


def test_two_spellings_of_one_set_have_one_event_id() -> None:
    one = parse_limits({"limit": [limit(threshold="100.0", match={"venue": "X", "account": "A"})]})
    other = parse_limits({"limit": [limit(match={"account": "A", "venue": "X"}, warn_at="0.80")]})
    assert limits_event_id(one) == limits_event_id(other)
    assert limits_event_id(one) != limits_event_id(parse_limits({"limit": [limit()]}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "max_positon"}, ['limit[1] "btc"', "kind", 'did you mean "max_position"']),
        ({"kind": None}, ["kind", "missing"]),
        ({"id": None}, ["limit[1]", "id", "missing"]),
        ({"id": ""}, ["id", "1 to 64 bytes"]),
        ({"id": "é" * 33}, ["id", "1 to 64 bytes", "66"]),
        ({"id": "kill"}, ["reserved"]),
        ({"id": 7}, ["id", "text in quotes"]),
        ({"treshold": "5"}, ["treshold", "unknown key", 'did you mean "threshold"']),
        ({"threshold": None}, ["threshold", "missing"]),
        ({"threshold": 100}, ["threshold", 'write "100"']),
        ({"threshold": "0"}, ["threshold", "above 0"]),
        ({"threshold": "-1"}, ["threshold", "above 0"]),
        ({"threshold": "abc"}, ["threshold", "decimal text", "abc"]),
        ({"threshold": "NaN"}, ["threshold", "decimal text"]),
        ({"threshold": "1_0"}, ["threshold", "decimal text"]),
        ({"threshold": "1e400"}, ["threshold", "below 1e38"]),
        ({"threshold": "1e999999999"}, ["threshold", "decimal text"]),
        ({"threshold": "1" * 39}, ["threshold", "38 significant digits"]),
        ({"threshold": "1e-19"}, ["threshold", "no finer than 1e-18"]),
        ({"warn_at": 0}, ["warn_at", "above 0 and at most 1"]),
        ({"warn_at": 1.01}, ["warn_at", "above 0 and at most 1"]),
        ({"warn_at": True}, ["warn_at"]),
        ({"warn_at": float("nan")}, ["warn_at"]),
        ({"clear_at": 0.9}, ["clear_at", "at most warn_at (0.8)", "0.9"]),
        ({"clear_at": 0}, ["clear_at"]),
        ({"window": "1s"}, ["window", "max_position has no window"]),
        ({"floor": "5"}, ["floor", "only concentration"]),
        ({"per": []}, ["per", '"symbol"']),
        ({"per": "symbol"}, ["per", "list"]),
        ({"per": ["symbol", "acount"]}, ["per", 'did you mean "account"']),
        ({"per": ["symbol", "symbol"]}, ["per", "once"]),
        ({"per": ["symbol", ["x"]]}, ["per"]),
        ({"match": {"symbl": "X"}}, ["match", "symbl", 'did you mean "symbol"']),
        ({"match": {"symbol": 5}}, ["match", "symbol", "text in quotes"]),
        ({"match": "X"}, ["match", "table"]),
        ({"action": "kil"}, ["action", 'did you mean "kill"']),
        ({"action": "kill", "per": ["symbol"]}, ["action", '"account" in per', "firm"]),
        ({"kill_scope": "desk"}, ["kill_scope", "account, firm"]),
        ({"kind": "trade_rate"}, ["window", "missing", "1s"]),
        ({"kind": "trade_rate", "window": "1.5s"}, ["window", "duration", "1.5s"]),
        ({"kind": "trade_rate", "window": "0s"}, ["window", "above 0"]),
        ({"kind": "trade_rate", "window": "1d"}, ["window", "duration"]),
        ({"kind": "trade_rate", "window": "1s", "window_ns": 5}, ["window", "twice"]),
        ({"kind": "restricted"}, ["threshold", "takes no threshold"]),
        ({"kind": "concentration", "per": ["account"]}, ["per", "exactly"]),
        ({"kind": "concentration", "floor": "-1"}, ["floor", "0 or more"]),
    ],
)
def test_a_wrong_limit_is_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    message = refused(limit(**changes))
    for word in ["limits.toml", *words]:
        assert word in message


def test_duplicate_ids_name_both_limits() -> None:
    message = refused(limit(), limit(kind="max_notional"))
    assert "limit[2]" in message
    assert "limit[1]" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_curency": "USD"}, ["settings", 'did you mean "base_currency"']),
        ({"base_currency": ""}, ["base_currency"]),
        ({"revalue_every": "fast"}, ["revalue_every", "duration"]),
        ({"revalue_every": 100}, ["revalue_every", "text"]),
        ({"fx": {"EUR": 1.08}}, ["settings.fx", "EUR", 'write "1.08"']),
        ({"fx": {"EUR": "0"}}, ["EUR", "above 0"]),
        ({"fx": {"USD": "2"}}, ["USD", "base currency"]),
        ({"fx": ["EUR"]}, ["settings.fx", "table"]),
        (["x"], ["settings", "table"]),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: object, words: list[str]) -> None:
    message = refused(settings=settings)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[[limit]\nid = 1", ["line 1"]),
        (b'[[limit]]\nid = "a"\nid = "b"', ["line 3"]),
        (b"\xff\xfe", ["UTF-8"]),
        (b"x = " + b"9" * 5000, ["limits.toml"]),
        (b"x = " + b"[" * 5000, ["limits.toml"]),
        (b'limit = "x"', ["limit", "array of tables"]),
        (b"limits = []", ["limits", 'did you mean "limit"']),
    ],
)
def test_a_file_that_is_no_toml_names_file_and_line(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "limits.toml"
    path.write_bytes(content)
    with pytest.raises(LimitsError) as caught:
        load_limits(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(LimitsError, match="cannot be read"):
            load_limits(path)


def test_durations_are_whole_numbers_of_a_unit() -> None:
    assert [parse_duration(text) for text in ("1ns", "2us", "3ms", "4s", "5m", "6h")] == [
        1,
        2_000,
        3_000_000,
        4_000_000_000,
        300_000_000_000,
        21_600_000_000_000,
    ]
    for text in ("", "1", "ms", "-1s", "1 s", "1S", "٣s", "1.0s", "9999999999999999h", "1s\n"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)


def test_sizes_and_ages_are_whole_numbers_of_a_unit() -> None:
    sizes = {"1B": 1, "2KB": 2000, "10GB": 10**10, "1TB": 10**12, "3KiB": 3072, "1GiB": 1 << 30}
    assert {text: parse_size(text) for text in sizes} == sizes
    for text in ("", "10", "GB", "-1GB", "1 GB", "1gb", "0MB", "1.5GB", "٣GB"):
        with pytest.raises(ValueError, match="expected a size"):
            parse_size(text)
    day = 86_400_000_000_000
    assert [parse_age(text) for text in ("1d", "36525d", "12h", "5ms")] == [day, 36525 * day, day // 2, 5_000_000]
    for text in ("", "d", "0d", "-1d", "1.5d", "36526d", "7 d", "1w"):
        with pytest.raises(ValueError, match="expected an age"):
            parse_age(text)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_instruments_fill_in_defaults_and_keep_their_order(tmp_path: Path) -> None:
    csv = "symbol,multiplier,currency,tick,price_exponent\nESU4,50,,0.25,-2\nX*,,EUR,,\n"
    toml = """
    [[instrument]]
    symbol = "ESU4"
    multiplier = 50
    price_exponent = -2
    [[instrument]]
    symbol = "X*"
    currency = "EUR"
    """
    found = load_instruments(write(tmp_path, "i.csv", csv))
    assert found == load_instruments(write(tmp_path, "i.toml", toml))
    es, x = found
    assert (es.symbol, es.multiplier, es.currency, es.price_exponent, es.quantity_exponent) == (
        "ESU4",
        Decimal(50),
        "",
        -2,
        -8,
    )
    assert (x.symbol, x.multiplier, x.currency, x.price_exponent) == ("X*", Decimal(1), "EUR", -9)
    assert es.event_id.startswith("instrument-")
    assert es.event_id != x.event_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("symbol,multiplier\nX,0\n", ["line 2", "multiplier", "above 0"]),
        ("symbol,multiplier\nX,1e30\n", ["line 2", "multiplier"]),
        ("symbol,multiplier\nX,1.2.3\n", ["line 2", "multiplier", "decimal text"]),
        ("symbol,price_exponent\nX,1\n", ["price_exponent", "-18 to 0"]),
        ("symbol,price_exponent\nX,-19\n", ["price_exponent", "-18 to 0"]),
        ("symbol,quantity_exponent\nX,two\n", ["quantity_exponent"]),
        ("symbol,mulitplier\nX,1\n", ["line 1", 'did you mean "multiplier"']),
        ("multiplier\n1\n", ["symbol", "header"]),
        ("symbol,symbol\nX,X\n", ["symbol", "twice"]),
        ("symbol,type\nX,inverse_perpetual\n", ["line 2", "inverse", "linear"]),
        ("symbol,inverse\nX,true\n", ["line 2", "inverse"]),
        ("symbol\nX\nX\n", ["line 3", "line 2"]),
        ("symbol,currency\nX\n", ["line 2", "2 fields"]),
        ("symbol\n" + "y" * 65 + "\n", ["line 2", "1 to 64 bytes"]),
        ("", ["empty"]),
        ('symbol\n"X', ["line 2", "CSV"]),
    ],
)
def test_a_wrong_instruments_file_is_refused_by_place(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, "instruments.csv", text)
    with pytest.raises(InstrumentsError) as caught:
        load_instruments(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_column_that_says_linear_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path, "i.csv", "symbol,type,inverse\nX,linear,false\n")
    assert load_instruments(path)[0].symbol == "X"


def test_opening_rows_become_adjustments_with_stable_ids(tmp_path: Path) -> None:
    text = "account,symbol,quantity,price\nA,X,-5,10.50\nA,X,-5,10.5\n,Y,1,2\n"
    first = load_opening(write(tmp_path, "a.csv", text))
    again = load_opening(write(tmp_path, "b.csv", text))
    assert first == again
    assert first[1].event_id == first[0].event_id + "#2"
    assert (first[0].account, first[0].symbol, first[0].quantity, first[0].price) == (
        "A",
        "X",
        Decimal(-5),
        Decimal("10.5"),
    )
    assert first[2].account == "default"


def test_opening_needs_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InstrumentsError, match="price"):
        load_opening(write(tmp_path, "a.csv", "account,symbol,quantity\nA,X,1\n"))
    with pytest.raises(InstrumentsError, match="line 2: quantity"):
        load_opening(write(tmp_path, "a.csv", "symbol,quantity,price\nX,,1\n"))
    with pytest.raises(InstrumentsError, match=r"\.csv or \.toml"):
        load_opening(write(tmp_path, "a.txt", "x"))


def test_a_currency_without_a_rate_is_an_error(tmp_path: Path) -> None:
    instruments = load_instruments(write(tmp_path, "i.csv", "symbol,currency\nX,EUR\nY,USD\nZ,\n"))
    check_currencies(parse_limits({"settings": {"fx": {"EUR": "1.08"}}}), instruments)
    with pytest.raises(LimitsError, match="no rate for EUR"):
        check_currencies(parse_limits({}), instruments)


def test_the_engine_file_of_the_design_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "riskwire.toml",
        """
        [engine]
        base = "ipc:///run/riskwire"
        journal = "var/journal"
        sync = "group"
        limits = "limits.toml"
        instruments = "instruments.csv"
        dead_letters = "/var/dead-letters.db"
        retain_size = "10GB"
        retain_age = "7d"
        segment_size = "16MiB"
        [[queue]]
        name = "compliance"
        max_attempts = 3
        lease = "5s"
        order_by = "account"
        events = ["TradeExecuted", "KillSwitch"]
        match = { account = "MM*" }
        """,
    )
    config = load_config(path)
    assert (config.retain_bytes, config.retain_age_ns) == (10**10, 7 * 86_400_000_000_000)
    assert config.segment_bytes == 16 << 20
    assert config.journal == str(tmp_path / "var/journal")
    assert config.dead_letters == "/var/dead-letters.db"
    assert config.sync == "group"
    assert (config.dedup_max_trades, config.expected_trades) == (50_000_000, 0)
    assert config.queue[0].lease_ns == 5_000_000_000
    assert config.queue[0].order_by == "account"
    assert config.queue[0].events == ("TradeExecuted", "KillSwitch")
    assert config.queue[0].match == {"account": "MM*"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[engin]\n", ["engin", 'did you mean "engine"']),
        ("engine = 5\n", ["engine", "table"]),
        ('[engine]\nsync = "fsync"\n', ["engine", "sync", "os, group, off"]),
        ('[engine]\nbase = "/run/x"\n', ["base", "ipc://"]),
        ("[engine]\ndedup_max_trades = 0\n", ["dedup_max_trades", "whole number"]),
        ("[engine]\ndedup_max_trades = 1.5\n", ["dedup_max_trades", "whole number"]),
        ('[engine]\nheartbeat_every = "x"\n', ["heartbeat_every", "duration"]),
        ("[engine]\nexpected_trades = -1\n", ["expected_trades", "whole number"]),
        ('[engine]\nretain_size = "10 GB"\n', ["retain_size", '"10GB"']),
        ("[engine]\nretain_size = 10\n", ["retain_size", "text"]),
        ('[engine]\nretain_age = "soon"\n', ["retain_age", '"7d"']),
        ('[engine]\nsegment_size = "1KB"\n', ["segment_size", "65,536"]),
        ("[[queue]]\nmax_attempts = 1\n", ["queue[1]", "name", "missing"]),
        ('[[queue]]\nname = "a"\n[[queue]]\nname = "a"\n', ["queue[2]", "already used"]),
        ('[[queue]]\nname = "a"\nlease = 5\n', ["queue[1]", "lease"]),
        ('[[queue]]\nname = "a"\norder_by = "colour"\n', ["order_by", "account"]),
        ('[[queue]]\nname = "a"\nbackoff_min = "2s"\nbackoff_max = "1s"\n', ["backoff_max"]),
        ('[[queue]]\nname = "a"\nevents = []\n', ["queue[1]", "events", "list of event types"]),
        ('[[queue]]\nname = "a"\nevents = ["Trade"]\n', ["events", "Trade", "TradeExecuted"]),
        ('[[queue]]\nname = "a"\nmatch = { acount = "x" }\n', ["match", "acount", 'did you mean "account"']),
        ('[[queue]]\nname = "a"\nmatch = { account = 5 }\n', ["match", "account", "text in quotes"]),
        ("[engine\n", ["line 1"]),
    ],
)
def test_a_wrong_engine_file_is_refused_by_name(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, "riskwire.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)
