"""Names are dense and exact; globs match as fnmatch does; instruments prefer exact symbols, then the first glob."""

from __future__ import annotations

import fnmatch

from hypothesis import given, settings
from hypothesis import strategies as st

from ext.definitions import Instruments, NameTable, glob_matches


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=300))
def test_names_get_dense_ids_in_order_of_first_sight(texts: list[bytes]) -> None:
    table = NameTable()
    expected: dict[bytes, int] = {b"": 0}
    for text in texts:
        assert table.add(text) == expected.setdefault(text, len(expected))
    assert len(table) == len(expected)
    assert all(table[i] == text and table.get(text) == i for text, i in expected.items())
    assert table.get(b"never seen, and longer than the others are") is None


plain = st.text("abé[]!-", max_size=8)


@settings(deadline=None)
@given(st.text("abé*?", max_size=8), plain)
def test_globs_match_as_fnmatch_does(pattern: str, text: str) -> None:
    assert glob_matches(pattern.encode(), text.encode()) == fnmatch.fnmatchcase(text, pattern)


@settings(deadline=None)
@given(st.sampled_from(["[ab]*", "[!a]?", "[a-z]", "x[]]", "[", "[]", "a[", "[é-ü]?", "*[!0-9]"]), plain)
def test_character_classes_match_as_fnmatch_does(pattern: str, text: str) -> None:
    assert glob_matches(pattern.encode(), text.encode()) == fnmatch.fnmatchcase(text, pattern)


def test_an_exact_instrument_wins_over_globs_and_the_first_glob_over_later_ones() -> None:
    instruments = Instruments()
    instruments.add(b"BTC*", multiplier=5, currency=b"EUR")
    instruments.add(b"B*", multiplier=7)
    instruments.add(b"BTCUSD", price_exponent=-2)
    assert instruments.get(b"BTCUSD") == (1, 0, b"", -2, -8)
    assert instruments.get(b"BTCEUR") == (5, 0, b"EUR", -9, -8)
    assert instruments.get(b"BNB") == (7, 0, b"", -9, -8)
    assert instruments.get(b"XRP") == (1, 0, b"", -9, -8)
    instruments.add(b"B*", multiplier=9)
    assert instruments.get(b"BNB")[0] == 9
