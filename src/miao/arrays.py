"""Kinds of arrays, by the name that annotations use; what their axes are stands beside each use. What NumPy lacks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]  # sound, levels, gains: what is many
Doubles = NDArray[np.float64]  # times, phases, measures: what must be exact
Reals = NDArray[np.floating]  # either of them
Integers = NDArray[np.int64]  # samples, indices, counts
Numbers = NDArray[np.integer | np.floating]  # whole or not
Flags = NDArray[np.bool_]
Records = NDArray[np.void]  # rows of named fields, as notes are
AnyArray = NDArray[Any]  # of whatever a file or a net holds


def distinct(values: AnyArray) -> AnyArray:
    """The different ones of some values, rising: `np.unique`, which loads NumPy's masked arrays when first called."""
    ordered = np.sort(values, axis=None)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]
