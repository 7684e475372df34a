"""The whole state of a RiskCore as bytes and back: header (magic, version, layout, size, CRC-32C), then sections."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SNAPSHOT_MAGIC = 0x31535752     # "RWS1"
    SNAPSHOT_VERSION = 1

cdef packed struct SnapshotHeader:
    uint32_t magic
    uint32_t version
    uint32_t layout                 # CRC-32C of the sizes of all structs in it: another build's memory is not taken
    uint32_t crc32c                 # of the body
    uint64_t body_bytes
    uint64_t applied_seq
