"""Read a set of limits into its book."""

from ext.limits cimport LimitBook

cdef object read_limits(LimitBook book)
