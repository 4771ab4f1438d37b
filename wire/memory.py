"""What a process does with memory that one batch has freed: it keeps it for the next.

A batch takes large blocks, megabytes in a detector (what was fetched or posted, what is sent). The
C library gives them back to the kernel at once, and gets them anew, page by page, for the next one:
that is a tenth of the processor time of a detector with a back-log, and a twentieth of a gateway's
that takes NDJSON.
"""

import ctypes
from typing import Final

KEPT_BYTES: Final = 32 * 2**20
"""Most free memory that is kept."""
LARGEST_BYTES: Final = 16 * 2**20
"""A block from this size on is given back at once, as before."""
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)
_MMAP_THRESHOLD: Final = -3


def keep_freed() -> bool:
    """Keep freed memory from now on; False where the C library (it is not glibc) can't be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
