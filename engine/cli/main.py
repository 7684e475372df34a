"""The console script `riskwire`: find the command, run it, turn what it raises into one line and a code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

import click

from engine.cli.groups import CommandGroup

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# name: (module, attribute, what the help says); read by `--help` without importing any of the modules.
COMMANDS = {
    "replay": ("engine.cli.replay", "replay", "Replay recorded trades to positions, P&L and alerts."),
    "demo": ("engine.cli.demo", "demo", "Make a realistic session and replay it with sample limits."),
    "serve": ("engine.cli.serve", "serve", "Run the engine as a daemon."),
    "publish": ("engine.cli.publish", "publish", "Publish recorded trades into a running engine."),
    "alerts": ("engine.cli.alerts", "alerts", "Follow the alerts of a running engine."),
    "positions": ("engine.cli.positions", "positions", "Show the positions of a running engine."),
    "status": ("engine.cli.status", "status", "Show what a running engine is doing."),
    "limits": ("engine.cli.limits", "limits", "Show, check or set limits."),
    "kill": ("engine.cli.kill", "kill", "Stop an account: engage its kill switch."),
    "release": ("engine.cli.kill", "release", "Release an account's kill switch."),
    "session": ("engine.cli.session", "session", "Start a trading session."),
    "worker": ("engine.cli.worker", "worker", "Run one competing worker on a queue."),
    "queue": ("engine.cli.queue", "queue", "Show the queues of a running engine and who works on them."),
    "blotter": ("engine.cli.blotter", "blotter", "Keep every trade once, for look-ups and by day."),
    "dlq": ("engine.cli.dlq", "dlq", "List, show and handle dead letters."),
    "journal": ("engine.cli.journal", "journal", "Look into a journal."),
    "doctor": ("engine.cli.doctor", "doctor", "Say what is wrong with this installation or endpoint."),
}


class LazyGroup(CommandGroup):
    """The group of all commands; a command's module is imported when it is run or asked for its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order the help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None for a name that does not exist."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and end, for `--version`."""
    if wanted and not ctx.resilient_parsing:
        import engine

        click.echo(f"riskwire {engine.__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version.",
)
@click.pass_context
def riskwire(ctx: click.Context) -> None:
    """Trades in; positions, profit and loss, and limit alerts out."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    args: the words after `riskwire`; default: those of this process. Returns 0 (fine), 1 (failed), 2 (bad
    usage or an unusable file, header, TOML or endpoint) or 130 (Ctrl-C). Raises nothing, but for SystemExit
    where a shell asks for completions.
    """
    if args is not None:
        return answer(list(args))
    try:
        return answer(sys.argv[1:])
    finally:
        gc.freeze()  # the process ends: what is left goes with it, and need not be searched for garbage


def answer(words: list[str]) -> int:
    """Run a command line; what it raises becomes one line on stderr, and the exit code."""
    if "_RISKWIRE_COMPLETE" in os.environ:
        riskwire.main(words, prog_name="riskwire")
    try:
        code = run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # `riskwire … | head`: whoever read has what it wanted
        silence(sys.stdout)
        return EXIT_OK
    except (KeyboardInterrupt, click.Abort):
        say("riskwire: interrupted")
        return EXIT_INTERRUPTED
    except Exception as problem:
        if os.environ.get("RISKWIRE_DEBUG"):
            import traceback

            traceback.print_exc()
        say(describe(problem))
        return exit_code_of(problem)
    return code


def run(words: list[str]) -> int:
    """Parse and invoke; what goes wrong is raised."""
    try:
        with riskwire.make_context("riskwire", words) as ctx:
            result = riskwire.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else EXIT_OK


def exit_code_of(problem: Exception) -> int:
    """Return the exit code for an exception (DESIGN section 9)."""
    from engine.errors import RiskwireError

    if isinstance(problem, click.ClickException):
        return EXIT_USAGE
    if isinstance(problem, RiskwireError):
        return problem.exit_code
    # A file that cannot be opened is unusable; what fails without a name (no space left) has failed.
    return EXIT_USAGE if isinstance(problem, OSError) and problem.filename is not None else EXIT_FAILED


def describe(problem: Exception) -> str:
    """Return one line: who says it, what went wrong, and what to do next."""
    from engine.errors import RiskwireError

    if isinstance(problem, click.ClickException):
        ctx = getattr(problem, "ctx", None)
        command = ctx.command_path if ctx else "riskwire"
        message = one_line(problem.format_message()).rstrip(".")
        return f"{command}: {message}; see '{command} --help'"
    if isinstance(problem, RiskwireError):
        return f"riskwire: {one_line(str(problem))}"
    if isinstance(problem, OSError) and problem.filename is not None:
        path = os.fsdecode(problem.filename)
        return f"riskwire: {one_line(path)}: {problem.strerror}; check the path and its permissions"
    kind = type(problem).__name__
    hint = "" if os.environ.get("RISKWIRE_DEBUG") else "; set RISKWIRE_DEBUG=1 to see where, and report it"
    return f"riskwire: unexpected {kind}: {one_line(str(problem))}{hint}"


def one_line(text: str) -> str:
    """Return a message without line breaks and control characters, whatever a file's name put there."""
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in words)


def say(line: str) -> None:
    """Write one line to stderr; a reader that has gone is no error."""
    try:
        click.echo(line, err=True)
    except BrokenPipeError:
        silence(sys.stderr)


def silence(stream: object) -> None:
    """Point a stream whose reader has gone to /dev/null, so that the interpreter's last flush is quiet."""
    fileno = getattr(stream, "fileno", None)
    if fileno is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fileno())
        os.close(null)
