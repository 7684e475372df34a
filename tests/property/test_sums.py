"""Sums of limits: what is added is exact over 768 bits, and a glance never takes what is near its limit for far."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ext.levels import add_part, add_product, is_below, is_within

BITS = 768


def around(*bits: int) -> st.SearchStrategy[int]:
    """Numbers of both signs at and beside powers of two, where carries end, and anywhere between."""
    edges = [sign * (1 << bit) + by for bit in bits for sign in (-1, 1) for by in (-2, -1, 0, 1, 2)]
    most = 1 << max(bits)
    return st.one_of(st.sampled_from(edges), st.integers(-most, most))


WIDE = around(0, 63, 64, 65, 127, 128, 191, 192, 193, 256, 320, 700)
RAW = st.one_of(
    st.integers(-(2**127), 2**127 - 1), st.integers(-(2**66), 2**66), st.sampled_from([-(2**127), 2**127 - 1])
)


@given(WIDE, RAW, st.integers(0, 2**64 - 1))
@example(0, -(2**127), 2**64 - 1)
@example(-1, 2**127 - 1, 2**64 - 1)
@example(2**192, -1, 1)
@example(2**700, -1, 1)
def test_what_is_added_is_exact(total: int, raw: int, factor: int) -> None:
    assert add_product(total, raw, factor) == total + raw * factor


@given(WIDE, WIDE, WIDE)
@example(2**192, 0, 2**192 + 1)
@example(-(2**192), 0, 2**193)
def test_a_glance_is_never_wrong_and_nearly_always_enough(value: int, below: int, warn: int) -> None:
    within, difference_within, short_within, short_difference_within = is_within(value, below, warn)
    assert not within or abs(value) < warn
    assert not difference_within or 0 <= value - below < warn
    if all(-(2**224) <= number < 2**224 for number in (value, below)):
        assert short_within is within
        assert not short_difference_within or 0 <= value - below < warn
        assert short_difference_within or not difference_within
    else:
        assert short_within is short_difference_within is None
    small = all(abs(number) < 2**190 for number in (value, below))
    if small and warn >= 2**66:
        assert within or abs(value) + 2**65 >= warn
        assert difference_within or not 0 <= value - below < warn - 2**65


@given(WIDE, st.lists(st.tuples(RAW, st.integers(0, 2**64 - 1)), max_size=3))
@example(0, [(-(2**127), 2**64 - 1)] * 3)
@example(-1, [(2**127 - 1, 2**64 - 1), (1, 1)])
@example(0, [(-1, 0)])
@example(2**256 - 1, [(1, 1)])
@example(2**700, [(-1, 1)])
@example(-(2**255), [(-1, 1)])
def test_what_a_position_changes_is_exact(total: int, products: list[tuple[int, int]]) -> None:
    assert add_part(total, products) == total + sum(raw * factor for raw, factor in products)


WORD = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 1_000), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]))
LIMBS3 = st.one_of(st.integers(0, 2**192 - 1), st.integers(0, 2**128), st.integers(0, 2**65))


@given(LIMBS3, WORD, LIMBS3, WORD)
@example(2**128 - 1, 2**64 - 1, 2**128 - 1, 2**64 - 1)
@example(2**65 - 1, 1, 2**64, 1)
def test_products_are_compared_exactly(a: int, x: int, b: int, y: int) -> None:
    assert is_below(a, x, b, y) is (a * x < b * y)


@given(LIMBS3, WORD, WORD, st.integers(-2, 2))
def test_products_that_are_all_but_equal_are_compared_exactly(a: int, x: int, y: int, off: int) -> None:
    b = max(0, a * x // max(y, 1) + off) % 2**192
    assert is_below(a, x, b, y) is (a * x < b * y)
