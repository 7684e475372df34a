from typing import Any, Final

POSITION_FIELDS: Final[tuple[str, ...]]
ALERT_FIELDS: Final[tuple[str, ...]]

def alerts_to_jsonl(frame: Any) -> bytes: ...
