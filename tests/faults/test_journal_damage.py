"""A journal cut at any byte, or with any bit turned: only an unsealed last frame may go, and damage is always found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.errors import JournalError
from ext.journal import Journal
from ext.records import FrameBuilder

FIRST = "00000001.rwj"
HEADER_BYTES, SEAL_BYTES = 64, 48
TAIL_BYTES = 4096
SAMPLED_BITS = 4096


def frame(first_seq: int, count: int, epoch: int, id_bytes: int) -> bytes:
    builder = FrameBuilder(1)
    for i in range(count):
        builder.add_record(
            type=1, side=1, symbol=1, account=1, id=f"{first_seq + i:0{id_bytes}d}".encode(), price=7, volume=9
        )
    return bytes(builder.finish(first_seq, epoch, 5))


def written(directory: Path, frames: int, clean: bool) -> tuple[bytes, list[bytes], list[int]]:
    """Write a journal; return its used bytes, its frames, and where each ends."""
    journal = Journal(directory)
    seq, ends, offset, rng = 1, [], HEADER_BYTES, random.Random(frames)
    for _ in range(frames):
        data = frame(seq, count := rng.randrange(1, 4), journal.epoch, rng.randrange(5, 30))
        journal.append_frame(data)
        seq += count
        ends.append(offset + len(data))
        offset += (len(data) + 7) // 8 * 8
    kept = list(journal)
    if clean:
        journal.close()
    else:
        journal.abandon()
    used = (directory / FIRST).read_bytes()[: offset + (SEAL_BYTES if clean else 0)]
    return used, kept, ends


@pytest.mark.parametrize("zeros", [0, 512], ids=["the file ends", "zeros follow"])
def test_the_last_4096_unsealed_bytes_cut_at_every_byte(tmp_path, zeros):
    used, frames, ends = written(tmp_path, 40, clean=False)
    segment = tmp_path / FIRST
    assert len(used) > TAIL_BYTES + HEADER_BYTES
    for cut in range(len(used) - TAIL_BYTES, len(used) + 1):
        segment.write_bytes(used[:cut] + bytes(zeros))
        with Journal(tmp_path, readonly=True) as journal:
            found = list(journal)
        whole = sum(end <= cut for end in ends)
        if zeros:  # what was cut may have been zeros itself
            whole = max(whole, len(found) if used[cut : ends[len(found) - 1]].strip(b"\0") == b"" else 0)
        assert found == frames[:whole], cut
        if cut % 64 == 0:
            goes_on(tmp_path, whole)


def goes_on(directory: Path, whole: int) -> None:
    """A writer cuts the torn tail and goes on behind what is whole."""
    with Journal(directory) as journal:
        assert len(journal) == whole
        data = frame(journal.next_seq, 1, journal.epoch, 8)
        journal.append_frame(data)
    with Journal(directory, readonly=True) as journal:
        assert journal.sealed
        assert list(journal)[-1] == data


def turned(used: bytes, bit: int) -> bytes:
    data = bytearray(used)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def read(directory: Path) -> tuple[list[bytes], object, str]:
    """Return a journal's frames, its torn tail, and the error instead of both."""
    try:
        with Journal(directory, readonly=True) as journal:
            return list(journal), journal.recovered, ""
    except JournalError as problem:
        return [], None, str(problem)


def check_bits(directory: Path, clean: bool, bits: list[int], used: bytes, frames: list[bytes], ends: list[int]) -> int:
    """Turn one bit at a time; return how often damage was an error (and not a torn tail)."""
    segment, errors = directory / FIRST, 0
    last_frame_at = (ends[-2] + 7) // 8 * 8
    for bit in bits:
        segment.write_bytes(turned(used, bit))
        found, torn, error = read(directory)
        if error:
            assert FIRST in error, bit
            errors += 1
            continue
        assert torn is not None, f"bit {bit} of byte {bit // 8} was turned, and nobody noticed"
        if found != frames:  # only an unsealed last frame may go
            assert not clean, bit
            assert found == frames[:-1], bit
            assert bit // 8 >= last_frame_at, bit
    return errors


@pytest.mark.parametrize("clean", [True, False], ids=["sealed", "unsealed"])
def test_4096_turned_bits_are_all_found(tmp_path, clean):
    used, frames, ends = written(tmp_path, 8, clean)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    bits = random.Random(seed).sample(range(len(used) * 8), min(SAMPLED_BITS // 2, len(used) * 8))
    assert check_bits(tmp_path, clean, bits, used, frames, ends) > len(bits) // 2


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("clean", [True, False], ids=["sealed", "unsealed"])
def test_every_turned_bit_is_found(tmp_path, clean):
    used, frames, ends = written(tmp_path, 40, clean)
    assert check_bits(tmp_path, clean, list(range(len(used) * 8)), used, frames, ends) > 0


def test_a_turned_bit_in_any_of_several_segments_is_found(tmp_path):
    journal, seq = Journal(tmp_path, segment_bytes=65536), 1
    while journal.segment_count < 3:
        journal.append_frame(frame(seq, 50, journal.epoch, 20))
        seq += 50
    journal.close()
    rng = random.Random(5)
    for segment in sorted(tmp_path.glob("*.rwj")):
        whole = segment.read_bytes()
        for _ in range(40):
            segment.write_bytes(turned(whole, rng.randrange(len(whole) * 8)))
            _, torn, error = read(tmp_path)
            assert segment.name in error or torn is not None
        segment.write_bytes(whole)
