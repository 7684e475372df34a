from collections.abc import Iterable

def fold(
    fills: Iterable[tuple[int, int]], cost: int = 0, realized: int = 0, quantity: int = 0
) -> tuple[int, int, int] | None: ...
