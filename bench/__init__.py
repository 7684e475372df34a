"""Figures, each beside a peer measured in the same run: `python -m bench`, from a checkout."""

import os

# numpy's OpenBLAS starts a thread for each further core, which spins for a tenth of a second: on two cores that is half
# of what a process measures when it begins, and it is counted as its processor time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
