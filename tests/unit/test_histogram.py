"""The histogram of latencies: counts to a thousandth, percentiles, merging, and HdrHistogram's published format."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.histogram import HIGHEST_NS, Histogram, highest_of, index_of

VALUES = st.integers(0, HIGHEST_NS)


def of(*values: int) -> Histogram:
    made = Histogram()
    made.record_all(np.array(values, np.int64))
    return made


@pytest.mark.parametrize("value", [0, 1, 1_023, 2_047, 2_048, 4_095, 4_096, 1_000_000, 123_456_789_012, HIGHEST_NS])
def test_a_value_and_its_count_differ_by_a_thousandth_at_most(value: int):
    highest = highest_of(index_of(value))
    assert value <= highest <= value * 1.001
    assert index_of(highest) == index_of(value)
    assert index_of(highest + 1) == index_of(value) + 1


def test_percentiles_are_those_of_the_values():
    values = np.random.default_rng(1).lognormal(10, 1, 20_000).astype(np.int64)
    histogram = of(*values.tolist())
    for percent in (0.0, 0.001, 50.0, 90.0, 99.0, 99.9):
        exact = sorted(values.tolist())[max(0, int(np.ceil(len(values) * percent / 100)) - 1)]
        assert exact <= histogram.percentile(percent) <= exact * 1.001
    assert histogram.percentile(100.0) == histogram.max_ns == values.max()


def test_a_tenth_of_ten_values_is_the_first_and_no_more():
    histogram = of(*range(1, 11))
    assert [histogram.percentile(percent) for percent in (10.0, 10.1, 30.0, 70.0, 90.0)] == [1, 2, 3, 7, 9]


def test_nothing_counted_has_no_percentile():
    assert (Histogram().percentile(99.0), Histogram().total, Histogram().max_ns) == (0, 0, 0)
    with pytest.raises(ValueError, match="0 to 100"):
        Histogram().percentile(101.0)


def test_a_negative_latency_counts_as_none_and_one_out_of_range_as_the_last():
    histogram = of(-5, 2**62)
    assert set(histogram.nonzero()) == {0, index_of(2**62)}
    assert index_of(2**62) == index_of(2**63 - 1)
    assert histogram.max_ns == 2**62


@settings(deadline=None)
@given(st.lists(VALUES, max_size=50), st.lists(VALUES, max_size=50))
def test_merged_histograms_are_the_histogram_of_all_values(some: list[int], others: list[int]):
    merged, together = of(*some), of(*some, *others)
    merged.merge(of(*others))
    assert merged.nonzero() == together.nonzero()
    assert (merged.total, merged.max_ns) == (together.total, together.max_ns)


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(1, 2**40)), max_size=30))
def test_what_is_encoded_comes_back(counted: list[tuple[int, int]]):
    histogram = Histogram()
    for value, count in counted:
        histogram.record(value, count)
    again = Histogram.decode(histogram.encode())
    assert (again.nonzero(), again.total) == (histogram.nonzero(), histogram.total)
    assert histogram.max_ns <= again.max_ns <= histogram.max_ns * 1.001


def test_an_encoded_histogram_decodes_by_the_published_format():
    histogram = of(5, 5, 3_000, 70_000_000)
    outer = base64.b64decode(histogram.encode())
    cookie, length = struct.unpack(">ii", outer[:8])
    inner = zlib.decompress(outer[8 : 8 + length])
    assert (cookie & ~0xF0, len(outer)) == (0x1C849304, 8 + length)
    cookie, payload, offset, digits, lowest, _, ratio = struct.unpack(">iiiiqqd", inner[:40])
    assert (cookie & ~0xF0, payload, offset, digits, lowest, ratio) == (0x1C849303, len(inner) - 40, 0, 3, 1, 1.0)
    counts, index, at = {}, 0, 40
    while at < len(inner):
        word = shift = 0
        while True:
            byte = inner[at]
            at += 1
            word |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        count = (word >> 1) ^ -(word & 1)
        if count < 0:
            index -= count
        else:
            counts[index] = count
            index += 1
    assert counts == histogram.nonzero()


def test_hdrhistograms_own_reader_agrees():
    hdrh = pytest.importorskip("hdrh.histogram")
    values = np.random.default_rng(2).lognormal(12, 1, 5_000).astype(int).tolist()
    ours, theirs = of(*values), hdrh.HdrHistogram(1, HIGHEST_NS, 3)
    for value in values:
        theirs.record_value(value)
    read = hdrh.HdrHistogram.decode(ours.encode())
    for percent in (50.0, 99.0, 99.9):
        assert read.get_value_at_percentile(percent) == ours.percentile(percent)
    assert Histogram.decode(theirs.encode()).nonzero() == ours.nonzero()


@pytest.mark.parametrize("cut", [0, 1, 8, 20, -8, -1])
def test_what_is_no_histogram_is_refused(cut: int):
    text = of(1, 70_000).encode()
    with pytest.raises(ValueError, match="HdrHistogram V2"):
        Histogram.decode(text[:cut])


def test_counts_beyond_the_range_are_refused():
    def packed(body: bytes, digits: int = 3) -> str:
        inner = zlib.compress(struct.pack(">iiiiqqd", 0x1C849313, len(body), 0, digits, 1, HIGHEST_NS, 1.0) + body)
        return base64.b64encode(struct.pack(">ii", 0x1C849314, len(inner)) + inner).decode()

    assert Histogram.decode(packed(b"\x02")).nonzero() == {0: 1}
    for body in (b"\xff\xff\xff\xff\x0f\x02", b"\xff" * 9, b"\x80"):
        with pytest.raises(ValueError, match="HdrHistogram V2"):
            Histogram.decode(packed(body))
    with pytest.raises(ValueError, match="3 digits"):
        Histogram.decode(packed(b"\x02", digits=2))
    with pytest.raises(ValueError, match="33792 counts"):
        Histogram.of_counts([(33_792, 1)], 5)
