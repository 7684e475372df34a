"""Exact numbers of the reference: whole numbers of fixed units in, decimal text out."""

from __future__ import annotations

from decimal import Decimal

# Every value that a limit compares is a whole number of 10**-72: the finest price (1e-18) times the finest quantity
# (1e-18) times the finest multiplier (1e-18) times the finest fx rate (1e-18).
VALUE_EXPONENT = -72
VALUE_ONE = 10**-VALUE_EXPONENT
PLACES = 9  # of `value`, `utilization` and `avg_price`

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT128_MIN, INT128_MAX = -(2**127), 2**127 - 1


class NotExact(ValueError):
    """A number is finer than the unit it is asked for in."""


def units(number: Decimal, exponent: int) -> int:
    """Return a decimal as a whole number of 10**exponent (exponent at most 0). Raises NotExact for a finer one."""
    numerator, denominator = number.as_integer_ratio()
    whole, rest = divmod(numerator * int(10**-exponent), denominator)
    if rest:
        raise NotExact(f"{number} is finer than 1e{exponent}")
    return whole


def round_half_even(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded to a whole number, ties to even. denominator > 0."""
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1):
        whole += 1
    return whole


def text_of(whole: int, exponent: int) -> str:
    """Return whole x 10**exponent as plain decimal text without trailing zeros."""
    if exponent >= 0:
        return str(whole * 10**exponent)
    digits = str(abs(whole)).rjust(1 - exponent, "0")
    text = f"{digits[:exponent]}.{digits[exponent:]}".rstrip("0").rstrip(".")
    return "-" + text if whole < 0 else text


def rounded_text(numerator: int, denominator: int) -> str:
    """Return numerator / denominator (> 0) as text, rounded half to even at nine decimals."""
    return text_of(round_half_even(numerator * 10**PLACES, denominator), -PLACES)
