"""Log lines have time, level, part and fields, one line each, for people or as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from engine.logs import start_logging


@pytest.fixture(params=[False, True], ids=["text", "json"])
def lines(request) -> Iterator[tuple[bool, io.StringIO]]:
    root = logging.getLogger("riskwire")
    before = root.handlers[:], root.level, root.propagate
    stream = io.StringIO()
    start_logging("info", request.param, stream)
    yield request.param, stream
    root.handlers, root.level, root.propagate = before


def test_a_line_has_time_level_part_and_fields(lines):
    as_json, stream = lines
    logging.getLogger("riskwire.snapshots").warning("snapshot\nskipped", extra={"seq": 7, "reason": 'a "b" c'})
    logging.getLogger("riskwire.snapshots").debug("not at this level")
    (line,) = stream.getvalue().splitlines()
    if as_json:
        found = json.loads(line)
        assert found.pop("time").endswith("Z")
        wanted = {"level": "warning", "part": "snapshots", "message": "snapshot skipped", "seq": 7, "reason": 'a "b" c'}
        assert found == wanted
    else:
        at, rest = line.split(" ", 1)
        assert at.endswith("Z")
        assert rest == 'WARNING snapshots: snapshot skipped seq=7 reason="a \\"b\\" c"'


def test_an_exception_is_a_field_and_no_traceback(lines):
    _, stream = lines
    try:
        raise ValueError("it\nbroke")
    except ValueError:
        logging.getLogger("riskwire.engine").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: it\\nbroke" in line
    assert "Traceback" not in line
