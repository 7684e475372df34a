"""The command line: one file a command, thin, imported only when it is run.

How to write a command (`riskwire NAME`):

- `engine/cli/NAME.py` defines one `click.Command` or `click.Group`; `engine.cli.main.COMMANDS` names it.
- At the top import only the standard library, click and `engine.cli.*`; services are imported inside the
  functions, so that `riskwire --help` stays within 0.2 s.
- Print results with `engine.cli.output` (`print_json`, `Table`, `paint`), never with `print`.
- Fail by raising: an `engine.errors.RiskwireError` or a `click.UsageError`. `engine.cli.main.main` turns
  every exception into one line on stderr and an exit code; a command may return its exit code as an int.
- Options that several commands share are in `engine.cli.options`.
"""

import gc
from typing import Any

FIRST_COLLECTION_OBJECTS = 50_000  # a start makes up to 40,000


def put_off_collection() -> None:
    """Let the first garbage collection come when a command has started; from then on they come as ever.

    Imports make many objects and no garbage: collecting meanwhile is a fifth of a start.
    """
    usual = gc.get_threshold()

    def return_to_usual(phase: str, info: dict[str, Any]) -> None:
        gc.callbacks.remove(return_to_usual)
        gc.set_threshold(*usual)

    gc.callbacks.append(return_to_usual)
    gc.set_threshold(FIRST_COLLECTION_OBJECTS, *usual[1:])


put_off_collection()  # here, as this is imported before anything that a command needs
