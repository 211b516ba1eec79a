"""Memory: what was freed goes back to the system, and what stays is not looked through again and again."""

import ctypes
import gc
from contextlib import suppress


def give_back_memory() -> None:
    """Frees what only waits for its turn. glibc holds on to what many threads have freed; others are left alone."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # no such function here: nothing is to be done
        ctypes.CDLL(None).malloc_trim(0)


def keep_what_is_loaded() -> None:
    """Python's collector of cycles leaves what is there now alone: looking through it takes a hundredth of a second,
    which is too long while a key waits for its sound."""
    gc.collect()
    gc.freeze()
