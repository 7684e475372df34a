"""The exact, slow, obviously right reference that the core is tested against (`riskwire replay --verify`).

It shares no code with `ext`; where the design leaves a choice, docs/decisions/0002-readings.md says which one it is.
"""

from engine.oracle.door import Door
from engine.oracle.oracle import Oracle

__all__ = ["Door", "Oracle"]
