"""Numbers and times from text agree with Decimal and datetime, exactly."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from ext.decimals import format_units, parse_number, parse_timestamp, to_units

INT64_MAX = 2**63 - 1
PRECISION, OVERFLOW = 4, 5

digits = st.text("0123456789", max_size=25)
number_texts = st.builds(
    lambda sign, whole, point, fraction, exponent: (
        f"{sign}{whole}{'.' if point else ''}{fraction if point else ''}{exponent}"
    ),
    st.sampled_from(["", "+", "-"]),
    digits,
    st.booleans(),
    digits,
    st.sampled_from(["", "e5", "E-7", "e+30", "e-40", "e400", "e-400"]),
)


def expected_number(text: str) -> tuple[int, int, bool] | None:
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text):
        return None
    sign, figures, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, figures)))
    if mantissa == 0:
        return 0, 0, False
    while mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    wide = mantissa > INT64_MAX
    mantissa = min(mantissa, INT64_MAX)
    return (-mantissa if sign else mantissa, max(-128, min(127, exponent)), wide)


@given(number_texts)
def test_a_number_reads_as_decimal_reads_it(text: str) -> None:
    assert parse_number(text.encode()) == expected_number(text)


@given(st.text(max_size=12))
def test_text_that_is_no_number_is_refused(text: str) -> None:
    allowed = set("0123456789+-.eE")
    if not set(text) <= allowed or not any(c in "0123456789" for c in text):
        assert parse_number(text.encode("utf-8", "surrogatepass")) is None


@given(st.integers(-INT64_MAX, INT64_MAX), st.integers(-30, 30), st.integers(-18, 0))
def test_rescaling_is_exact_or_says_why_not(mantissa: int, exponent: int, unit: int) -> None:
    with localcontext(prec=200):
        scaled = Decimal(mantissa).scaleb(exponent - unit)
    reason, value = to_units(mantissa, exponent, unit)
    if scaled != scaled.to_integral_value():
        assert reason == PRECISION
    elif abs(scaled) > INT64_MAX:
        assert reason == OVERFLOW
    else:
        assert (reason, value) == (0, int(scaled))


@given(st.integers(-(2**127) + 1, 2**127 - 1), st.integers(-60, 30))
def test_integers_print_as_trimmed_decimals(value: int, exponent: int) -> None:
    with localcontext(prec=300):
        expected = format(Decimal(value).scaleb(exponent), "f")
    if "." in expected:
        expected = expected.rstrip("0").rstrip(".")
    if expected in ("-0", ""):
        expected = "0"
    if value == 0:
        expected = "0"
    assert format_units(value >> 64, value & (2**64 - 1), exponent) == expected


@given(
    st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)),
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from(["T", " "]),
)
def test_iso_times_read_as_datetime_reads_them(moment: datetime, offset_minutes: int, separator: str) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    expected_ns = (elapsed.days * 86_400 + elapsed.seconds) * 10**9 + elapsed.microseconds * 1_000
    assert parse_timestamp(moment.isoformat(sep=separator).encode()) == (0, expected_ns)


@given(st.integers(0, 2**70))
def test_integer_times_are_scaled_by_their_size(value: int) -> None:
    scale = 10**9 if value < 10**11 else 10**6 if value < 10**14 else 10**3 if value < 10**17 else 1
    expected = (0, value * scale) if value * scale <= INT64_MAX else (OVERFLOW, 0)
    assert parse_timestamp(str(value).encode()) == expected
