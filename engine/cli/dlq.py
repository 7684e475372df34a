"""`riskwire dlq list|show|requeue|skip|export|purge`: dead letters, of a file or of the running engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import engine_options, is_insecure, json_option, open_client
from engine.cli.output import Table, count_of, print_json, print_line, print_pairs

if TYPE_CHECKING:
    from engine.deadletters import DeadLetterStore, LetterFilter, StoredLetter

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN_MAX = 100
CELL_MAX = 60
PAGE = 1_000
SKIP_FIRST_HERE = "a running engine knows what waits behind which letter: skip that first (riskwire dlq skip)"
SKIP_FIRST = "jobs may wait behind them until they are sent again or skipped (riskwire dlq skip)"
ASK_AN_ENGINE = "which jobs wait behind them only their engine knows; purge there, without FILE.db, or say --force"


def filter_options(command: Command) -> Command:
    """Add the options that choose letters."""
    for option in (
        click.option("--since", metavar="WHEN", help="Refused since then: 1h, 2024-05-01T12:00:00Z or a Unix time."),
        click.option("--status", metavar="S", default="", help="dead, requeued, resolved or skipped."),
        click.option("--symbol", metavar="GLOB", default="", help="Only these symbols."),
        click.option("--account", metavar="GLOB", default="", help="Only these accounts."),
        click.option("--stage", metavar="S", default="", help="feed, door, sequence, queue or queue:NAME."),
        click.option("--reason", metavar="R", default="", help="Only this reason."),
    ):
        command = option(command)
    return command


def make_filter(options: dict[str, Any]) -> LetterFilter:
    """Return the filter that the options make; raises a usage error for what no letter can be."""
    from engine.deadletters import STATUSES, LetterFilter
    from ext.records import REASONS

    reason, status = options["reason"], options["status"]
    reasons = [word for word in REASONS if word]
    if reason and reason not in reasons:
        raise click.UsageError(f"--reason {reason!r}: expected one of {', '.join(reasons)}")
    if status and status not in STATUSES:
        raise click.UsageError(f"--status {status!r}: expected one of {', '.join(STATUSES)}")
    since = parse_since(options["since"]) if options["since"] else 0
    return LetterFilter(
        reason=reason,
        status=status,
        stage=options["stage"],
        account=options["account"],
        symbol=options["symbol"],
        since=since,
    )


def parse_since(text: str) -> int:
    """Return a time in ns: a duration before now, or a time as in a feed."""
    import time

    from engine.checks import parse_duration
    from ext.decimals import parse_timestamp

    try:
        return time.time_ns() - parse_duration(text)
    except ValueError:
        error, at = parse_timestamp(text.encode())
        if error:
            raise click.UsageError(
                f"--since {text!r}: expected a duration such as 1h, an ISO 8601 time or a Unix time"
            ) from None
        return at


@click.group(cls=CommandGroup)
def dlq() -> None:
    """List, show and handle dead letters: what was refused or given up, with its original bytes."""


@dlq.command(name="list")
@click.argument("file", required=False, metavar="[FILE.db]")
@filter_options
@click.option("--limit", type=click.IntRange(1), help=f"At most so many. [default: {SHOWN_MAX}; with --json all]")
@engine_options
@json_option
def list_(file: str | None, limit: int | None, connect: str | None, wait: float, as_json: bool, **options: Any) -> None:
    """List dead letters, oldest first: of FILE.db, else of the running engine.

    parked is how many later jobs of the same key wait behind it in a queue with order_by, until it is sent again with
    success or skipped (only a running engine knows).
    """
    which = make_filter(options)
    if as_json:
        print_json(list(take(pages(file, which, connect, wait), limit)))
        return
    shown = limit or SHOWN_MAX
    letters = list(take(pages(file, which, connect, wait), shown + 1))
    if not letters:
        print_line("no dead letters")
        return
    columns = ("account", "symbol", "trade_id", ">count", ">parked", "status")
    table = Table(">id", "reason", "stage", "where", *columns, "error")
    for letter in letters[:shown]:
        cells = [letter.get(key.removeprefix(">"), "-") or "-" for key in columns]
        table.add(letter["id"], letter["reason"], letter["stage"], place_of(letter), *cells, cut(letter["error"]))
    table.print()
    if len(letters) > shown:
        print_line(f"… and more: --limit {10 * shown}, or choose with --reason, --stage, --account, --symbol, --since")


@dlq.command()
@click.argument("words", nargs=-1, required=True, metavar="[FILE.db] ID…")
@engine_options
@json_option
def show(words: tuple[str, ...], connect: str | None, wait: float, as_json: bool) -> None:
    """Show dead letters whole: bytes, error, traceback and history."""
    file, ids = file_and_ids(words)
    if not ids:
        raise click.UsageError("missing the number of a letter; `riskwire dlq list` shows them")
    letters = [one_letter(file, id_, connect, wait) for id_ in ids]
    if as_json:
        print_json(letters[0] if len(letters) == 1 else letters)
        return
    for letter in letters:
        print_letter(letter)


@dlq.command()
@click.argument("words", nargs=-1, metavar="[FILE.db] [ID…]")
@filter_options
@click.option("--edit", multiple=True, metavar="FIELD=VALUE", help="Replace a field of what was invalid.")
@click.option("--all", "everything", is_flag=True, help="Every letter that is dead.")
@click.option("--job", "jobs", multiple=True, metavar="QUEUE:SEQ", help="A dead job whose letter is gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@engine_options
@json_option
def requeue(
    words: tuple[str, ...],
    edit: tuple[str, ...],
    everything: bool,
    jobs: tuple[str, ...],
    dry_run: bool,
    connect: str | None,
    wait: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Send dead letters again: to the engine's door, or back to the queue whose workers gave up.

    Sending one again twice adds nothing twice. The letters are those of FILE.db, else of the running engine.
    """
    from engine.requeue import Requeuer, parse_edits

    edits = parse_edits(edit)
    if jobs:
        print_outcomes(send_jobs(jobs, "requeue", words, connect, wait, dry_run), as_json)
        return
    with (
        open_store(words, connect, wait) as store,
        Requeuer(store, base_of(connect), edits=edits, wait_s=wait, insecure=is_insecure()) as requeuer,
    ):
        outcomes = requeuer.send(chosen(store, words, options, everything), dry_run)
    print_outcomes(outcomes, as_json)


@dlq.command()
@click.argument("words", nargs=-1, metavar="[FILE.db] [ID…]")
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every letter that is dead.")
@click.option("--job", "jobs", multiple=True, metavar="QUEUE:SEQ", help="A dead job whose letter is gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be skipped.")
@engine_options
@json_option
def skip(
    words: tuple[str, ...],
    everything: bool,
    jobs: tuple[str, ...],
    dry_run: bool,
    connect: str | None,
    wait: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Leave dead letters for good; jobs parked behind them in an ordered queue go on."""
    from engine.requeue import Requeuer

    if jobs:
        print_outcomes(send_jobs(jobs, "skip", words, connect, wait, dry_run), as_json)
        return
    with (
        open_store(words, connect, wait) as store,
        Requeuer(store, base_of(connect), wait_s=wait, insecure=is_insecure()) as requeuer,
    ):
        outcomes = requeuer.skip(chosen(store, words, options, everything), dry_run)
    print_outcomes(outcomes, as_json)


@dlq.command()
@click.argument("file", required=False, metavar="[FILE.db]")
@click.option("--output", "-o", metavar="OUT.jsonl", help="Where to write. [default: standard output]")
@filter_options
@engine_options
@json_option
def export(
    file: str | None, output: str | None, connect: str | None, wait: float, as_json: bool, **options: Any
) -> None:
    """Write dead letters as JSON Lines, their bytes exactly (payload_base64)."""
    import msgspec

    letters = pages(file, make_filter(options), connect, wait)
    if output is None:
        for letter in letters:
            click.echo(msgspec.json.encode(letter).decode())
        return
    count = 0
    with open(output, "wb") as out:
        for letter in letters:
            out.write(msgspec.json.encode(letter) + b"\n")
            count += 1
    if as_json:
        print_json({"exported": count, "path": output})
    else:
        print_line(f"{output}: {count_of(count, 'dead letter')}")


@dlq.command()
@click.argument("file", required=False, metavar="[FILE.db]")
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every letter, whatever its status.")
@click.option("--force", is_flag=True, help="Of FILE.db: also the letters of jobs that others may wait behind.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@engine_options
@json_option
def purge(
    file: str | None,
    everything: bool,
    force: bool,
    dry_run: bool,
    connect: str | None,
    wait: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Delete dead letters for good, but those of jobs that others of an ordered queue may wait behind.

    A running engine knows which these are. In FILE.db it may be any job of a queue that is neither resolved nor
    skipped.
    """
    import msgspec

    from engine.deadletters import hold_nothing, purge_letters

    which = make_filter(options)
    if which.takes_all and not everything:
        raise click.UsageError("this would delete every letter; choose some with --status or others, or say --all")
    if force and file is None:
        raise click.UsageError(f"--force is for a FILE.db; {SKIP_FIRST_HERE}")
    if file is not None:
        answer = purge_letters(file, which, dry_run, hold_nothing if force else None)
    else:
        with open_client(connect, wait) as engine:
            answer = engine.request("dlq_purge", dry_run=dry_run, **msgspec.structs.asdict(which))
    if as_json:
        print_json(answer)
    else:
        done = "would be purged" if dry_run else "purged"
        why = SKIP_FIRST if file is None else ASK_AN_ENGINE
        kept = f"; {answer['kept']} kept: {why}" if answer["kept"] else ""
        print_line(f"{count_of(answer['purged'], 'dead letter')} {done}{kept}")


# --- where letters come from


def pages(file: str | None, which: LetterFilter, connect: str | None, wait: float) -> Iterator[dict[str, Any]]:
    """Yield letters as JSON values, from a file or page by page from the running engine."""
    from engine.deadletters import DeadLetterStore

    if file is not None:
        with DeadLetterStore(file, read_only=True) as store:
            for letter in store.iterate(which):
                yield letter.to_json()
        return
    import msgspec

    after: int | None = 0
    with open_client(connect, wait) as engine:
        while after is not None:
            page = engine.request("dlq_list", after=after, limit=PAGE, **msgspec.structs.asdict(which))
            yield from page["letters"]
            after = page["next"]


def take(letters: Iterator[dict[str, Any]], limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield at most `limit` letters."""
    import itertools

    return itertools.islice(letters, limit)


def one_letter(file: str | None, id_: int, connect: str | None, wait: float) -> dict[str, Any]:
    """Return one letter; raises a usage error where there is none of that number."""
    if file is None:
        with open_client(connect, wait) as engine:
            found: dict[str, Any] = engine.request("dlq_show", letter=id_)["letter"]
            return found
    from engine.deadletters import show_letter

    letter = show_letter(file, id_)
    if letter is None:
        raise click.UsageError(f"{file} has no letter {id_}; `riskwire dlq list {file}` shows which there are")
    return letter


def file_and_ids(words: tuple[str, ...]) -> tuple[str | None, list[int]]:
    """Return the file, if one of the words is one, and the numbers among them, in any order."""
    ids = [int(word) for word in words if word.isascii() and word.isdigit()]
    files = [word for word in words if not (word.isascii() and word.isdigit())]
    if len(files) > 1:
        raise click.UsageError(f"expected one file and numbers of letters, found {files[0]!r} and {files[1]!r}")
    return (files[0] if files else None), ids


def base_of(connect: str | None) -> str:
    """Return the engine's address."""
    from engine.endpoints import default_base

    return connect or default_base()


def open_store(words: tuple[str, ...], connect: str | None, wait: float) -> DeadLetterStore:
    """Open the file among the words, else the running engine's, for writing."""
    from engine.deadletters import DeadLetterStore

    file, _ = file_and_ids(words)
    if file is None:
        with open_client(connect, wait) as engine:
            file = engine.status()["dead_letters"]["path"]
    return DeadLetterStore(file, create=False)


def chosen(
    store: DeadLetterStore, words: tuple[str, ...], options: dict[str, Any], everything: bool
) -> Iterator[StoredLetter]:
    """Return the letters that numbers or filters choose; raises a usage error where nothing chooses."""
    import msgspec

    which = make_filter(options)
    _, ids = file_and_ids(words)
    if ids:
        letters = [store.get(id_) for id_ in ids]
        missing = [id_ for id_, letter in zip(ids, letters, strict=True) if letter is None]
        if missing:
            raise click.UsageError(f"there is no letter {missing[0]}; `riskwire dlq list` shows which there are")
        return (letter for letter in letters if letter is not None)
    if which.takes_all and not everything:
        raise click.UsageError("name letters by their numbers, choose them with --reason or others, or say --all")
    # Read whole: what is sent again changes its status, and a refusal makes a new letter.
    return iter(list(store.iterate(which if which.status else msgspec.structs.replace(which, status="dead"))))


def send_jobs(
    jobs: tuple[str, ...], action: str, words: tuple[str, ...], connect: str | None, wait: float, dry_run: bool
) -> list[Any]:
    """Send jobs again, or skip them, by queue and seq."""
    from engine.requeue import parse_job, send_job

    if words:
        raise click.UsageError("--job goes without numbers of letters: it is for jobs whose letters are gone")
    places = [parse_job(job) for job in jobs]
    base = base_of(connect)
    return [
        send_job(base, queue, seq, action, dry_run=dry_run, wait_s=wait, insecure=is_insecure())
        for queue, seq in places
    ]


# --- what is printed


def place_of(letter: dict[str, Any]) -> str:
    """Return where a letter came from, in few words."""
    if letter["seq"]:
        return f"seq {letter['seq']}"
    if letter["position"]:
        return f"{letter['source']} {letter['unit']} {letter['position']}".strip()
    return str(letter["source"])


def cut(text: str) -> str:
    """Return text short enough for a table's last column."""
    text = " ".join(text.split())
    return text if len(text) <= CELL_MAX else text[: CELL_MAX - 1] + "…"


def time_text(at_ns: int) -> str:
    """Return a time for people, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC") if at_ns else "-"


def print_letter(letter: dict[str, Any]) -> None:
    """Print everything about one letter."""
    import msgspec

    print_pairs(
        [
            ("letter", f"{letter['id']} ({letter['status']})"),
            ("reason", f"{letter['reason']} at stage {letter['stage']}"),
            ("error", letter["error"]),
            ("where", place_of(letter)),
            ("count", f"{letter['count']}, first {time_text(letter['first_at'])}, last {time_text(letter['last_at'])}"),
            ("attempts", letter["attempts"]),
            ("first failure", f"letter {letter['first_failure']}" if letter["first_failure"] else "this one"),
            ("event", msgspec.json.encode(letter["event"]).decode() if letter["event"] else "could not be decoded"),
            ("bytes", letter["payload"]),
        ]
    )
    for entry in letter["history"]:
        words = f"attempt {entry.get('attempt')} at {time_text(entry.get('at', 0))} by {entry.get('worker')}"
        print_line(f"  {words}: {entry.get('kind')}: {entry.get('error')}")
    if letter["traceback"]:
        print_line(letter["traceback"].rstrip())
    print_line()


def print_outcomes(outcomes: list[Any], as_json: bool) -> None:
    """Print what became of letters."""
    import msgspec

    if as_json:
        print_json([msgspec.structs.asdict(outcome) for outcome in outcomes])
        return
    if not outcomes:
        print_line("no dead letters")
        return
    table = Table(">letter", "outcome", "detail")
    for outcome in outcomes:
        table.add(outcome.id, outcome.outcome, outcome.detail)
    table.print()
