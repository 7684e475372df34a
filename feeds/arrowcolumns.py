"""Arrow arrays as addresses of buffers in the few layouts that ext.columnrows reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from ext.columnrows import KINDS
from ext.feedwriter import FIELD_GUARD_NUMBER, FIELD_NAMES
from feeds.errors import FeedError

NUMBERS = ("price", "volume", "fee")
Texts = tuple[int, int, int, int, int, int]
Column = tuple[int, int, int, int, int, int, int, Texts | None]
UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class Arrow(NamedTuple):
    """The modules of pyarrow, imported only where a feed needs them."""

    lib: Any
    types: Any
    compute: Any
    ipc: Any
    parquet: Any


def load_arrow(path: str) -> Arrow:
    """Raises FeedError where pyarrow is not installed."""
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.compute  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.ipc  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise FeedError(f"{path} needs pyarrow to be read: pip install 'riskwire[parquet]'") from None
    return Arrow(pyarrow, pyarrow.types, pyarrow.compute, pyarrow.ipc, pyarrow.parquet)


def check_type(arrow: Arrow, field: str, column: str, found: Any, where: str) -> None:
    """Raise FeedError for a column whose type can never be this field."""
    types = arrow.types
    kind = found.value_type if types.is_dictionary(found) or types.is_run_end_encoded(found) else found
    text = is_text(types, kind)
    if field in NUMBERS:
        good = text or types.is_integer(kind) or types.is_decimal(kind) or types.is_floating(kind)
        expected = "an integer, a decimal, a float or a string"
    elif field == "executed_at":
        good = text or types.is_integer(kind) or types.is_timestamp(kind)
        expected = "a timestamp, an integer or a string"
    else:
        good = text or types.is_integer(kind) or types.is_boolean(kind)
        expected = "a string or an integer"
    if not good and not types.is_null(kind):
        raise FeedError(f"{where}: column {column!r} is {found}, {field} needs {expected}")


def is_text(types: Any, kind: Any) -> bool:
    return any(
        judge(kind)
        for judge in (
            types.is_string, types.is_large_string, types.is_string_view,
            types.is_binary, types.is_large_binary, types.is_binary_view,
        )
    )  # fmt: skip


def arrow_column(arrow: Arrow, field: str, array: Any, round_decimals: int, trusted: bool) -> tuple[Column | None, Any]:
    """The column's layout, and what keeps its buffers alive; None for one that is all null.

    Raises ArrowException where an untrusted array's buffers are not what its type says.
    """
    types = arrow.types
    number = FIELD_GUARD_NUMBER if field == "keep" else FIELD_NAMES.index(field)
    coded = types.is_dictionary(array.type)
    if coded and field not in NUMBERS and field != "executed_at" and is_text(types, array.type.value_type):
        return coded_column(arrow, number, array, trusted)
    if not trusted:
        array = as_binary(arrow, array) if is_text(types, array.type) else array
        array.validate(full=True)
    if types.is_run_end_encoded(array.type):
        array = arrow.compute.run_end_decode(array)
    if coded:
        array = array.dictionary_decode()
    array = normalized(arrow, field, array)
    if types.is_null(array.type):
        return None, None
    buffers = array.buffers()
    if types.is_binary(array.type):
        return (number, KINDS["text"], 0, 0, 0, 0, -1, texts_of(array)), array
    kind, unit = layout_of(types, array.type)
    return (
        (number, kind, array.offset, address(buffers[0]), address(buffers[1]), unit, round_decimals, None),
        array,
    )


def coded_column(arrow: Arrow, number: int, array: Any, trusted: bool) -> tuple[Column, Any]:
    if not trusted:
        array.validate()
    indices = array.indices.cast(arrow.lib.int32())
    words = as_binary(arrow, array.dictionary)
    if not trusted:
        words.validate(full=True)
    buffers = indices.buffers()
    return (
        number, KINDS["dictionary"], indices.offset, address(buffers[0]), address(buffers[1]), 0, -1, texts_of(words),
    ), (indices, words)  # fmt: skip


def as_binary(arrow: Arrow, array: Any) -> Any:
    """Texts as bytes: bad UTF-8 is a matter of its cell."""
    types, lib = arrow.types, arrow.lib
    if types.is_string_view(array.type):
        array = array.cast(lib.string())
    return array if types.is_binary(array.type) else array.cast(lib.binary())


def normalized(arrow: Arrow, field: str, array: Any) -> Any:
    """The array as int64, double, decimal128, timestamp or binary."""
    types, lib, kind = arrow.types, arrow.lib, array.type
    if is_text(types, kind):
        return as_binary(arrow, array)
    if types.is_timestamp(kind) or types.is_null(kind):
        return array
    if types.is_integer(kind) and not types.is_uint64(kind):
        return array.cast(lib.int64())
    if field in NUMBERS:
        if types.is_float64(kind) or types.is_decimal128(kind):
            return array
        if types.is_uint64(kind):
            return array.cast(lib.decimal128(20, 0))
    # Texts of the others: Arrow writes floats in their shortest form and decimals exactly.
    return array.cast(lib.string()).cast(lib.binary())


def layout_of(types: Any, kind: Any) -> tuple[int, int]:
    """The kind of column, and its unit (TIME: ns; DECIMAL: the scale)."""
    if types.is_timestamp(kind):
        return KINDS["time"], UNITS_NS[kind.unit]
    if types.is_float64(kind):
        return KINDS["float"], 0
    if types.is_decimal128(kind):
        return KINDS["decimal"], kind.scale
    return KINDS["integer"], 0


def texts_of(array: Any) -> Texts:
    validity, offsets, data = array.buffers()
    data_bytes = data.size if data is not None else 0
    return address(validity), address(offsets), address(data), data_bytes, array.offset, len(array)


def address(buffer: Any) -> int:
    return int(buffer.address) if buffer is not None else 0
