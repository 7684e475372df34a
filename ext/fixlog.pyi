from ext.bytewindow import Readable
from ext.feedwriter import FeedWriter, RowRules
from ext.recordreader import WindowReader

class FixReader(WindowReader):
    line: int
    def __init__(
        self,
        source: Readable,
        writer: FeedWriter,
        tags: dict[int, int],
        constants: dict[int, bytes],
        lenient: bool,
    ) -> None: ...
    def begin(self, rules: RowRules, sided: RowRules) -> None: ...
    def has_message(self) -> bool: ...
    def first_record(self) -> bytes | None: ...
