"""The whole state of a RiskCore as bytes and back: header, then sections (a 64-bit size and the bytes, each)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from ext.positions cimport Book
from ext.records cimport Bytes

cdef enum:
    SNAPSHOT_MAGIC = 0x31535752     # "RWS1"
    SNAPSHOT_VERSION = 7
    ALERT_PIECE_BYTES = 4194304     # copied at once, between two frames
    PIECE_TRADES = 65536            # likewise
    STATE_SECTIONS = 30             # before the trades' pieces, the alerts' included

cdef enum Trades:                   # where a snapshot's trades are
    TRADES_IN_JOURNAL = 0
    TRADES_IN_STATE = 1             # a section of the state
    TRADES_IN_PIECES = 2            # behind everything else

cdef packed struct SnapshotHeader:
    uint32_t magic
    uint32_t version
    uint32_t layout                 # CRC-32C of the sizes of all structs in it: another build's memory is not taken
    uint32_t crc32c                 # of the body, and then of this header with this field zero
    uint64_t body_bytes
    uint64_t applied_seq
    uint64_t alerts                 # the last alert_no
    uint64_t anchor_epoch           # the journal's frame that ends with applied_seq: its epoch, first seq and CRC;
    uint64_t anchor_first_seq       # 0: no journal was asked
    uint32_t anchor_crc32c
    uint32_t trades                 # Trades
    int64_t taken_at                # ns since 1970 UTC

cdef packed struct TradePiece:      # then the columns of `count` entries, and their texts, as zlib packs them
    uint64_t count
    uint64_t raw_bytes
    uint64_t packed_bytes

cdef class Frozen:
    cdef Bytes state                # all sections but the alerts
    cdef Bytes alerts               # the alerts' three sections
    cdef SnapshotHeader header
    cdef uint32_t crc               # of the body so far
    cdef Book book                  # whose trades are being copied; None: no one's
    cdef Bytes rows                 # Entry, of the piece copied last
    cdef Bytes texts                # theirs
    cdef uint64_t records_done      # bytes of each of the alert log's arrays copied so far
    cdef uint64_t offsets_done
    cdef uint64_t heap_done
    cdef uint64_t heap_end
