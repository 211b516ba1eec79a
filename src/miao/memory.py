"""Memory that was freed goes back to the system, where its allocator keeps it for later."""

import ctypes
import gc
from contextlib import suppress


def give_back_memory() -> None:
    """Frees what only waits for its turn. glibc holds on to what many threads have freed; others are left alone."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # no such function here: nothing is to be done
        ctypes.CDLL(None).malloc_trim(0)
