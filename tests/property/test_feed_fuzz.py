"""The byte readers under atheris (`pip install 'riskwire[fuzz]'`): a minute each of the nightly run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from feed_bytes import fix_message
from fuzz_feeds import KINDS, fuzz_one, outcome, seed_of

SECONDS = int(os.environ.get("RISKWIRE_FUZZ_S", "60"))
HERE = Path(__file__).parent


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_of_the_fuzzer_is_read(kind: str) -> None:
    fuzz_one(kind, seed_of(kind))


def test_what_was_found_before_stays_right() -> None:
    """A digit in front of a FIX message's mark; the raw bytes of a DBN record without a length: whatever reads give."""
    messages = [fix_message(i) for i in range(3)]
    fix = messages[0] + b"8" + messages[1] + b"\n" + messages[2]
    dbn = seed_of("dbn")[:-200] + bytes(40) + seed_of("dbn")[-96:]
    for kind, data in (("fix", fix), ("dbn", dbn)):
        for size in (1, 2, 3, 7, 48):
            assert outcome(kind, data, size, 512) == outcome(kind, data, 1 << 20, 512)


@pytest.mark.nightly
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("kind", KINDS)
def test_no_bytes_crash_a_reader_hang_it_or_are_read_in_two_ways(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    seed = random.randrange(1, 2**31)
    print(f"RISKWIRE_FUZZ_S={SECONDS} seed {seed}")
    limits = [f"-max_total_time={SECONDS}", "-max_len=8192", "-rss_limit_mb=1500", "-timeout=30", f"-seed={seed}"]
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_feeds.py"), kind, *limits, f"-artifact_prefix={tmp_path}/"],
        cwd=HERE, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), *sys.path])},
    )  # fmt: skip
    found = [path.read_bytes()[:400] for path in tmp_path.iterdir()]
    assert done.returncode == 0, f"seed {seed}, {found}\n{done.stderr[-3000:]}"
