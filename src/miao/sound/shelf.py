"""Blocks of samples that are used again and again."""

import numpy as np
from numpy.typing import NDArray


class Shelf:
    """Blocks of samples that are lent and come back by themselves when nobody holds them any more.

    Memory that has just come from the system is handed over page by page, and on a machine with several cores each page
    that is read before it is written makes them wait for each other: a tenth of a short rendering.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.float32]] = []

    def lend(self, *shape: int) -> NDArray[np.float32]:
        """Samples of a shape, of which nothing is known."""
        while self._free:
            block = self._free.pop()
            if block.shape == shape:
                return np.asarray(_Loan(block, self._free))
        return np.asarray(_Loan(np.empty(shape, np.float32), self._free))

    def lend_silent(self, *shape: int) -> NDArray[np.float32]:
        """Zeros of a shape."""
        block = self.lend(*shape)
        return silenced(block)


class _Loan:
    """What holds a block while an array, or any part of one, is made of it."""

    def __init__(self, block: NDArray[np.float32], home: list[NDArray[np.float32]]) -> None:
        self._block, self._home = block, home
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        self._home.append(self._block)


def silenced(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """The block, all of it zero."""
    block.view(np.uint8).fill(0)  # bytes are filled twice as fast
    return block
