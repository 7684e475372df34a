from typing import Final

KINDS: Final[tuple[str, ...]]
DIMENSIONS: Final[dict[str, int]]
NO_LIMITS: Final[bytes]
