# Functions for other Cython modules only: see windows.pxd.
