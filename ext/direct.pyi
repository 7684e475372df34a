from typing import Any

from ext.encoder import EventEncoder
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source

class Direct:
    encoder: EventEncoder
    sequencer: Sequencer
    source: Source
    core: RiskCore
    def __init__(self, encoder: EventEncoder, sequencer: Sequencer, source: Source, core: RiskCore) -> None: ...
    def apply(self, event: Any) -> int: ...
    def take(self) -> None: ...
