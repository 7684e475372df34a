"""The Cython core: records and frames, names, the sequence, positions, limits and the hot loops."""
