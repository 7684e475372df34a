# Functions for other Cython modules only: see valuation.pxd.
