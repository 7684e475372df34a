from ext.bytewindow import Readable
from ext.feedwriter import FeedWriter, RowRules

class FixReader:
    line: int
    records_read: int
    def __init__(
        self,
        source: Readable,
        writer: FeedWriter,
        tags: dict[int, int],
        constants: dict[int, bytes],
        lenient: bool,
    ) -> None: ...
    def begin(self, rules: RowRules, sided: RowRules) -> None: ...
    def first_record(self) -> bytes | None: ...
    def head(self) -> tuple[bool, int | None]: ...
    def fill(self, records_max: int, limit: int | None = None) -> bool: ...
