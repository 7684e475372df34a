from ext.bytewindow import Readable
from ext.feedwriter import FeedWriter
from ext.linereader import LineReader, SlowLines

class CaptureReader(LineReader):
    def __init__(self, source: Readable, writer: FeedWriter, slow: SlowLines, as_marks: bool) -> None: ...
