"""The console script `riskwire`: a Ctrl-C while the rest is still being imported is answered as later."""

from __future__ import annotations

import os


def main() -> int:
    """Import the commands and run one; the exit code. 130 where Ctrl-C came before the commands were there."""
    try:
        from engine.cli import main as commands
    except KeyboardInterrupt:
        os.write(2, b"riskwire: interrupted\n")
        return 130
    return commands.main()
