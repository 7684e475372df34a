"""The whole state of a RiskCore as bytes and back: header, then sections (a 64-bit size and the bytes, each)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from ext.records cimport Bytes

cdef enum:
    SNAPSHOT_MAGIC = 0x31535752     # "RWS1"
    SNAPSHOT_VERSION = 2
    ALERT_PIECE_BYTES = 4194304     # copied at once, between two frames

cdef packed struct SnapshotHeader:
    uint32_t magic
    uint32_t version
    uint32_t layout                 # CRC-32C of the sizes of all structs in it: another build's memory is not taken
    uint32_t crc32c                 # of this header with this field zero, and of the body
    uint64_t body_bytes
    uint64_t applied_seq
    uint64_t alerts                 # the last alert_no
    uint64_t anchor_epoch           # the journal's frame that ends with applied_seq: its epoch, first seq and CRC;
    uint64_t anchor_first_seq       # 0: no journal was asked
    uint32_t anchor_crc32c
    uint32_t trades                 # 1: the trades are in it; 0: they are read from the journal again
    int64_t taken_at                # ns since 1970 UTC

cdef class Frozen:
    cdef Bytes state                # all sections but the alerts
    cdef Bytes alerts               # the alerts' three sections
    cdef SnapshotHeader header
    cdef uint64_t records_done      # bytes of each of the alert log's arrays copied so far
    cdef uint64_t offsets_done
    cdef uint64_t heap_done
    cdef uint64_t heap_end
