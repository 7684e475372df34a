"""The journal: what was appended is read back, a torn tail is cut, damage is named, and nothing is skipped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import JournalBusy, JournalError
from engine.journal import is_journal, journal_info, open_journal, read_frames, verify_journal
from ext.journal import Journal
from ext.records import FrameBuilder, crc32c_of

HEADER_BYTES = 64
SEAL_BYTES = 48
FIRST = "00000001.rwj"


def frame(first_seq: int, count: int = 2, epoch: int = 7, id_bytes: int = 10) -> bytearray:
    builder = FrameBuilder(1)
    for i in range(count):
        builder.add_record(type=1, side=1, symbol=1, id=f"{first_seq + i:0{id_bytes}d}".encode(), price=1, volume=1)
    return builder.finish(first_seq, epoch, 5)


def write(directory: Path, frames: int, count: int = 2, clean: bool = False, **options: object) -> Path:
    """Write a journal of equal frames; not clean: as a killed process leaves it. Returns its first segment."""
    journal = Journal(directory, **options)
    for i in range(frames):
        journal.append_frame(frame(i * count + 1, count, journal.epoch))
    if clean:
        journal.close()
    else:
        journal.abandon()
    return directory / FIRST


def used_bytes(frames: int, count: int = 2) -> int:
    size = (len(frame(1, count)) + 7) // 8 * 8
    return HEADER_BYTES + frames * size


@pytest.mark.parametrize("clean", [True, False])
def test_frames_come_back_after_a_restart_as_they_were(tmp_path, clean):
    write(tmp_path, 5, clean=clean)
    with Journal(tmp_path) as journal:
        assert journal.last_seq == 10
        assert journal.sealed is clean
        assert journal.recovered is None
        assert [data[HEADER_BYTES:] for data in journal] == [bytes(frame(i, 2))[HEADER_BYTES:] for i in range(1, 11, 2)]


def test_a_frame_is_found_by_any_seq_it_holds(tmp_path):
    journal = Journal(None)
    seqs = {}
    first = 1
    for count in (1, 3, 2, 1, 40, 1):
        data = bytes(frame(first, count))
        seqs |= dict.fromkeys(range(first, first + count), data)
        journal.append_frame(data)
        first += count
    assert all(journal.frame(seq) == data for seq, data in seqs.items())
    assert journal.frame(0) is None
    assert journal.frame(first) is None


def test_the_index_grows_beyond_its_first_chunk():
    journal = Journal(None)
    for seq in range(1, 5001):
        journal.append_frame(frame(seq, 1))
    assert len(journal) == 5000
    assert all(journal.frame(seq)[16:24] == seq.to_bytes(8, "little") for seq in (1, 1024, 1025, 3072, 3073, 5000))


def test_a_frame_that_leaves_a_gap_or_is_none_is_refused():
    journal = Journal(None)
    with pytest.raises(ValueError, match="expected 1"):
        journal.append_frame(frame(2))
    damaged = frame(1)
    damaged[70] ^= 1
    with pytest.raises(ValueError, match="CRC"):
        journal.append_frame(damaged)
    assert journal.last_seq == 0


def test_segments_follow_each_other_and_are_cut_to_what_they_hold(tmp_path):
    write(tmp_path, 200, count=8, clean=True, segment_bytes=65536)
    names = sorted(path.name for path in tmp_path.glob("*.rwj"))
    assert names == [f"{i:08d}.rwj" for i in range(1, len(names) + 1)]
    assert len(names) > 1
    with Journal(tmp_path, segment_bytes=65536) as journal:
        assert journal.last_seq == 1600
        assert sum(os.path.getsize(tmp_path / name) for name in names[:-1]) < journal.used_bytes


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(tmp_path):
    journal = Journal(tmp_path, segment_bytes=65536)
    big = frame(1, 2000)
    journal.append_frame(big)
    journal.append_frame(frame(2001))
    journal.close()
    assert bytes(big) == next(iter(read_frames(tmp_path)))


def test_a_tail_torn_at_any_byte_is_cut_and_reported(tmp_path):
    segment = write(tmp_path, 3)
    whole = segment.read_bytes()
    start, end = used_bytes(2), HEADER_BYTES + 2 * ((len(frame(1)) + 7) // 8 * 8) + len(frame(1))
    for cut in range(start, end):
        torn = whole[:cut] + bytes(len(whole) - cut)
        if torn == whole:  # the frame ends with zero bytes
            continue
        segment.write_bytes(torn)
        with Journal(tmp_path) as journal:
            assert journal.last_seq == 4, cut
            if cut > start:
                name, offset, lost = journal.recovered
                assert (name, offset) == (FIRST, start)
                assert 0 < lost <= cut - start
            journal.append_frame(frame(5, 2, journal.epoch))
        with Journal(tmp_path, readonly=True) as journal:
            assert journal.sealed
            assert journal.last_seq == 6


def test_a_tail_is_cut_where_the_file_itself_ends_early(tmp_path):
    segment = write(tmp_path, 3)
    whole = segment.read_bytes()
    for cut in range(used_bytes(2), used_bytes(3) - 8, 13):
        segment.write_bytes(whole[:cut])
        with Journal(tmp_path) as journal:
            assert journal.last_seq == 4
        segment.unlink()


def test_a_torn_tail_starts_a_new_epoch_and_a_clean_stop_does_not(tmp_path):
    write(tmp_path, 1, clean=True)
    with Journal(tmp_path) as journal:
        epoch = journal.epoch
    with Journal(tmp_path) as journal:
        assert journal.epoch == epoch
        journal.abandon()
    with Journal(tmp_path) as journal:
        assert journal.epoch not in (0, epoch)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 9, HEADER_BYTES + 41, HEADER_BYTES + 70])
def test_damage_before_the_last_frame_names_segment_and_offset(tmp_path, clean, at):
    segment = write(tmp_path, 4, clean=clean)
    data = bytearray(segment.read_bytes())
    data[at] ^= 0x40
    segment.write_bytes(data)
    with pytest.raises(JournalError, match=rf"{FIRST} is damaged at offset {HEADER_BYTES}: "):
        Journal(tmp_path)
    with pytest.raises(JournalError, match=f"offset {HEADER_BYTES}"):
        verify_journal(tmp_path)


def test_even_the_last_frame_must_be_whole_in_a_sealed_journal(tmp_path):
    segment = write(tmp_path, 4, clean=True)
    data = bytearray(segment.read_bytes())
    data[used_bytes(3) + 80] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalError, match=f"offset {used_bytes(3)}: CRC"):
        Journal(tmp_path)


def test_damage_in_an_earlier_segment_is_never_a_torn_tail(tmp_path):
    segment = write(tmp_path, 200, count=8, segment_bytes=65536)
    data = bytearray(segment.read_bytes())
    data[-40] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalError, match=FIRST):
        Journal(tmp_path)


@pytest.mark.parametrize("gone", ["00000001.rwj", "00000002.rwj"])
def test_a_missing_segment_is_named(tmp_path, gone):
    write(tmp_path, 400, count=8, segment_bytes=65536)
    (tmp_path / gone).unlink()
    with pytest.raises(JournalError, match=f"{gone} is missing"):
        Journal(tmp_path)


def test_the_unfinished_beginning_of_a_segment_is_removed(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "00000002.rwj").write_bytes(bytes(1 << 20))
    with Journal(tmp_path) as journal:
        assert journal.last_seq == 2
        assert journal.recovered[0] == "00000002.rwj"
        journal.append_frame(frame(3, 2, journal.epoch))
    assert not (tmp_path / "00000002.rwj").exists()


def test_a_segment_of_another_version_is_refused_by_number(tmp_path):
    segment = write(tmp_path, 1)
    data = bytearray(segment.read_bytes())
    data[4] = 9
    data[60:64] = crc32c_of(bytes(data[:60])).to_bytes(4, "little")
    segment.write_bytes(data)
    with pytest.raises(JournalError, match="version 9"):
        Journal(tmp_path)


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append_frame(frame(1))
        with pytest.raises(JournalBusy, match=str(os.getpid())):
            open_journal(tmp_path)
        assert len(list(read_frames(tmp_path))) == 1
        assert not journal_info(tmp_path).sealed
    assert journal_info(tmp_path).sealed


def test_the_lock_goes_with_the_process(tmp_path):
    code = "import sys; from ext.journal import Journal; j = Journal(sys.argv[1]); import os; os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    Journal(tmp_path).close()


def test_verify_only_reads(tmp_path):
    segment = write(tmp_path, 3)
    data = segment.read_bytes()
    torn = data[: used_bytes(2) + 30] + bytes(len(data) - used_bytes(2) - 30)
    segment.write_bytes(torn)
    info = verify_journal(tmp_path)
    assert (info.torn_segment, info.torn_offset) == (FIRST, used_bytes(2))
    assert (info.first_seq, info.last_seq, info.frames) == (1, 4, 2)
    assert segment.read_bytes() == torn


def test_an_empty_journal_can_be_closed_and_opened_again(tmp_path):
    Journal(tmp_path).close()
    assert not is_journal(tmp_path)
    with Journal(tmp_path) as journal:
        assert journal.last_seq == 0
        journal.append_frame(frame(1, 2, journal.epoch))
    assert is_journal(tmp_path)


def test_a_journal_where_none_can_be_is_one_clear_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        open_journal(file)
    with pytest.raises(JournalError, match="no such journal"):
        journal_info(tmp_path / "nowhere")


def test_a_full_disk_is_an_error_and_not_a_signal(tmp_path):
    """With a limit on file size, preallocation fails as on a full disk; the journal goes on when it is gone."""
    code = """
import resource, signal, sys
from ext.journal import Journal
from tests.unit.test_journal import frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    journal.append_frame(frame(1))
    sys.exit("was taken")
except OSError as problem:
    print(problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append_frame(frame(1))
journal.close()
"""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert journal_info(tmp_path).last_seq == 2


@pytest.mark.parametrize("sync", ["os", "group", "off"])
def test_flush_and_close_work_in_every_mode(tmp_path, sync):
    with Journal(tmp_path, sync) as journal:
        journal.append_frame(frame(1, 2, journal.epoch))
        journal.flush()
        journal.append_frame(frame(3, 2, journal.epoch))
    assert journal_info(tmp_path).last_seq == 4


def group_journal(directory: Path) -> Path:
    """Write six frames with sync = "group", of which the first three are known to be on the disk."""
    journal = Journal(directory, "group")
    for i in range(6):
        journal.append_frame(frame(2 * i + 1, 2, journal.epoch))
        if i == 2:
            journal.flush()
    journal.abandon()
    return directory / FIRST


def wipe(segment: Path, number: int) -> None:
    """Zero frame `number`, as where its page never reached the disk."""
    data = bytearray(segment.read_bytes())
    data[used_bytes(number) : used_bytes(number + 1)] = bytes(used_bytes(1) - HEADER_BYTES)
    segment.write_bytes(data)


@pytest.mark.parametrize(("lost", "left"), [(3, 6), (4, 8), (5, 10)])
def test_what_a_power_cut_takes_of_an_unsynced_group_is_cut_though_frames_follow_it(tmp_path, lost, left):
    segment = group_journal(tmp_path)
    wipe(segment, lost)
    assert journal_info(tmp_path).last_seq == left
    with Journal(tmp_path, "group") as journal:
        assert journal.last_seq == left
        if lost < 5:
            name, offset, _ = journal.recovered
            assert (name, offset) == (FIRST, used_bytes(lost))
        journal.append_frame(frame(left + 1, 2, journal.epoch))
    assert journal_info(tmp_path).last_seq == left + 2


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_what_was_on_the_disk_with_group_and_is_not_there_is_damage(tmp_path, lost):
    segment = group_journal(tmp_path)
    wipe(segment, lost)
    with pytest.raises(JournalError, match=rf"{FIRST} is damaged at offset {used_bytes(lost)}: what was on the disk"):
        Journal(tmp_path, "group")


def test_a_last_frame_that_was_acked_with_group_is_no_torn_tail(tmp_path):
    journal = Journal(tmp_path, "group")
    journal.append_frame(frame(1, 2, journal.epoch))
    journal.flush()
    journal.abandon()
    data = bytearray((tmp_path / FIRST).read_bytes())
    data[HEADER_BYTES + 70] ^= 1
    (tmp_path / FIRST).write_bytes(data)
    with pytest.raises(JournalError, match="what was on the disk is not there"):
        Journal(tmp_path, "group")


def test_a_turned_bit_in_the_mark_of_what_is_on_the_disk_is_found(tmp_path):
    segment = group_journal(tmp_path)
    whole = segment.read_bytes()
    for bit in range(48 * 8, 56 * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        segment.write_bytes(data)
        with pytest.raises(JournalError, match="offset 48"):
            journal_info(tmp_path)


def test_a_group_journal_that_goes_on_with_os_claims_nothing_of_the_disk_any_more(tmp_path):
    segment = group_journal(tmp_path)
    with Journal(tmp_path, "os") as journal:
        journal.append_frame(frame(13, 2, journal.epoch))
        journal.append_frame(frame(15, 2, journal.epoch))
        journal.abandon()
    wipe(segment, 6)
    with pytest.raises(JournalError, match="frames follow it"):
        Journal(tmp_path, "os")


def test_a_freed_journal_in_memory_knows_where_it_ended_and_holds_nothing():
    journal = Journal(None, segment_bytes=4096)
    while journal.segment_count < 3:
        journal.append_frame(frame(journal.next_seq))
    last_seq = journal.last_seq
    journal.free()
    assert (journal.closed, journal.last_seq, journal.first_seq, journal.segment_count) == (
        True,
        last_seq,
        last_seq + 1,
        0,
    )
    assert (len(journal), list(journal), journal.used_bytes, journal.seq_at(0)) == (0, [], 0, None)
    assert [journal.frame(seq) for seq in (1, last_seq, last_seq + 1)] == [None] * 3
    with pytest.raises(ValueError, match="not open for writing"):
        journal.append_frame(frame(last_seq + 1))


def test_a_journal_with_files_is_not_freed(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append_frame(frame(1))
        with pytest.raises(ValueError, match="only a journal in memory"):
            journal.free()
        assert journal.frame(1) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="pages are touched ahead on Linux only")
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_long_journal_has_its_next_pages_touched_by_a_thread_that_ends_with_it(tmp_path, where):
    """Also what is read back is what was written, over several segments; and a fork, which has no such thread, ends."""
    journal = Journal(None if where == "memory" else str(tmp_path / "journal"))
    written = [bytes(frame(1 + 500 * i, 500)) for i in range(60)]
    before = touching()
    journal.append_frame(written[0])
    assert touching() == before
    for each in written[1:]:
        journal.append_frame(each)
    wait_for(lambda: touching() == before + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is what this is about
        child = os.fork()
    if child == 0:
        for i in range(60):
            journal.append_frame(frame(30_001 + 500 * i, 500))
        ended = os.EX_OK if journal.frame_by_index(0) == written[0] else os.EX_SOFTWARE
        del journal
        os._exit(ended)
    assert os.waitpid(child, 0)[1] == 0
    assert [journal.frame_by_index(i) for i in range(60)] == written
    del journal
    wait_for(lambda: touching() == before)


def touching() -> int:
    """Count the threads of this process that touch pages ahead."""
    count = 0
    for each in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            count += each.read_text() == "touch-ahead\n"
    return count


def wait_for(holds: Callable[[], bool]) -> None:
    """Ask until it holds, ten seconds at most."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)
