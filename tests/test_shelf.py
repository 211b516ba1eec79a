import numpy as np

from miao.sound.shelf import Shelf


def test_a_block_comes_back_when_nothing_of_it_is_held():
    shelf = Shelf()
    block = shelf.lend(3, 2, 100)
    place, part = block.ctypes.data, block[1, :, 10:]
    del block
    assert shelf.lend(3, 2, 100).ctypes.data != place, "a part of it is still held"
    del part
    blocks = [shelf.lend(3, 2, 100) for _ in range(2)]
    assert place in {block.ctypes.data for block in blocks}


def test_two_that_are_held_at_once_are_two():
    shelf = Shelf()
    one, other = shelf.lend_silent(2, 50), shelf.lend_silent(2, 50)
    one += 1
    assert not other.any() and one.all()


def test_silent_ones_are_silent_whatever_they_held():
    shelf = Shelf()
    for _ in range(3):
        block = shelf.lend_silent(2, 50)
        assert block.dtype == np.float32 and block.shape == (2, 50) and not block.any()
        block += 1
        del block
    assert shelf.lend(4, 10).shape == (4, 10)
