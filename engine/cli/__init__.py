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
