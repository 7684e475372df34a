# For other Cython modules only: see limits.pxd.
