"""What people and programs see: tables, numbers, colours, progress, and one line for every error."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import click
import pytest

from engine.cli import main as cli
from engine.cli import output
from engine.cli.options import SECONDS
from engine.cli.progress import Progress
from engine.errors import EngineUnreachable, LimitsError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_table_aligns_words_left_and_numbers_right() -> None:
    table = output.Table("account", ">quantity")
    table.add("MM1", "5")
    table.add("A", "-1,000.5")
    assert table.lines() == ["account  quantity", "MM1             5", "A        -1,000.5"]


def test_table_ends_with_totals_below_a_rule() -> None:
    table = output.Table("account", ">fees")
    table.add("MM1", "12")
    table.total("total", "12")
    assert table.lines()[-2:] == ["-------  ----", "total      12"]


def test_table_refuses_a_row_of_another_width() -> None:
    with pytest.raises(ValueError, match="expected 2 cells, found 1"):
        output.Table("a", "b").add("x")


def test_control_characters_of_a_feed_cannot_steer_the_terminal() -> None:
    table = output.Table("symbol")
    table.add("\x1b[31mBTC\n")
    assert table.lines()[1] == "\\x1b[31mBTC\\n"


@pytest.mark.parametrize(
    ("number", "places", "expected"),
    [
        (1234567, None, "1,234,567"),
        ("-1234567.50", None, "-1,234,567.50"),
        (Decimal("1234.565"), 2, "1,234.56"),
        ("-0.001", 2, "0.00"),
        (
            "170141183460469231731687303715884105727.5",
            1,
            "170,141,183,460,469,231,731,687,303,715,884,105,727.5",
        ),
        ("*", 2, "*"),
    ],
)
def test_numbers_are_grouped_exactly(number: object, places: int | None, expected: str) -> None:
    assert output.grouped(number, places) == expected


def test_colours_are_for_terminals_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("breach", "breach") == "breach"
    monkeypatch.setattr("sys.stdout", Terminal())
    assert output.paint("breach", "breach") == click.style("breach", fg="red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("breach", "breach") == "breach"


def test_progress_draws_on_a_terminal_and_takes_itself_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("replay") as progress:
        progress.update(50, 100, 1_000)
    assert " 50%  1,000 events" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_progress_says_how_long_it_will_take() -> None:
    text = Progress("replay").text
    assert text(25, 100, 1_000, 10.0).endswith("25%  1,000 events, 100/s, 30 s left")
    assert text(0, 100, 0, 1.0).endswith("0/s")
    assert text(100, 100, 10, 1.0).endswith("10/s")


def test_progress_of_a_paced_feed_says_how_late_it_is() -> None:
    text = Progress("replay").text
    assert text(25, 100, 1_000, 10.0, 0.0).endswith("1,000 events, 100/s, on time, 30 s left")
    assert text(25, 100, 1_000, 10.0, 2.25).endswith("1,000 events, 100/s, 2.2 s behind, 30 s left")


def test_progress_is_silent_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    with Progress("replay") as progress:
        progress.update(50, 100, 1_000)
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2.0), ("500ms", 0.5), ("1m", 60.0), ("0", 0.0), ("0.25", 0.25), ("3", 3.0)]
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5s", "nan", "1 s", "1e3", "."])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a duration"):
        SECONDS.convert(text, None, None)


def test_json_is_one_line_with_decimals_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"price": Decimal("1.50"), "name": "é"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"price": "1.50", "name": "é"}


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (LimitsError("limits.toml: bad"), 2, "riskwire: limits.toml: bad"),
        (EngineUnreachable("nobody\nanswers"), 1, "riskwire: nobody answers"),
        (
            FileNotFoundError(2, "No such file or directory", "a\nb"),
            2,
            "riskwire: a b: No such file or directory",
        ),
        (OSError(28, "No space left on device"), 1, "riskwire: unexpected OSError: [Errno 28] No space left"),
        (RuntimeError("broken"), 1, "riskwire: unexpected RuntimeError: broken; set RISKWIRE_DEBUG=1"),
        (click.UsageError("no such thing"), 2, "riskwire: no such thing; see 'riskwire --help'"),
    ],
)
def test_every_exception_is_one_line_and_a_code(
    problem: Exception,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(words: list[str]) -> int:
        raise problem

    monkeypatch.delenv("RISKWIRE_DEBUG", raising=False)
    monkeypatch.setattr(cli, "run", fail)
    assert cli.main([]) == code
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_traceback_is_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(words: list[str]) -> int:
        raise RuntimeError("broken")

    monkeypatch.setenv("RISKWIRE_DEBUG", "1")
    monkeypatch.setattr(cli, "run", fail)
    assert cli.main([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    assert cli.main([]) == 130
    assert capsys.readouterr().err == "riskwire: interrupted\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["positons"], "riskwire: there is no command 'positons'; did you mean 'positions'?"),
        (["--nonsense"], "riskwire: No such option"),
        (["limits", "check"], "riskwire limits check: Missing argument"),
        (["limits"], "riskwire limits: missing command; expected one of show, check, set"),
        (["replay"], "riskwire replay: Missing argument"),
        (["replay", "x.csv", "--speed", "-1"], "riskwire replay: "),
        (["status", "--wait", "soon"], "riskwire status: Invalid value for '--wait'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: riskwire {name}")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"\n  {name} " not in listed] == []
