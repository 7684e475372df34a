from typing import Final

from ext.risk import RiskCore

DEBUG: Final[bool]
_Names = tuple[str, str, str, str]

def levels(core: RiskCore) -> dict[tuple[str, _Names], str]: ...
def sums(core: RiskCore) -> dict[tuple[str, _Names], tuple[int, int, int]]: ...
def check_cash(core: RiskCore) -> None: ...
