"""Files: there whole or not at all, whatever happens while they are written."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from miao import files
from miao.errors import BankError, DataError

WRITERS = {
    "bytes": lambda path, **how: files.write_bytes(path, b"new", DataError, **how),
    "text": lambda path: files.write_text(path, "new", DataError),
    "json": lambda path: files.write_json(path, "new", DataError),
    "arrays": lambda path: files.write_arrays(path, {"new": np.arange(3)}, DataError),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_kind_of_content_is_read_back(tmp_path):
    files.write_bytes(tmp_path / "a", b"\x00\xff", DataError)
    files.write_text(tmp_path / "b", "eine Säge\r\n", DataError)
    files.write_json(tmp_path / "c", {"a": [1, "ä"]}, DataError)
    files.write_arrays(tmp_path / "d.npz", {"x": np.arange(3)}, DataError)
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "eine Säge\r\n".encode()
    assert json.loads((tmp_path / "c").read_text("utf-8")) == {"a": [1, "ä"]}
    with np.load(tmp_path / "d.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]
    assert names(tmp_path) == ["a", "b", "c", "d.npz"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, write):
    (tmp_path / "a").write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)  # by then all has been written
    with pytest.raises(DataError, match=r"^\S+a: cannot be written: no space left on device$"):
        write(tmp_path / "a")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_folder_that_is_none_is_one_line(tmp_path, write):
    with pytest.raises(DataError, match=r"there is no folder .*; make it first"):
        write(tmp_path / "none" / "a")
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        write(tmp_path)


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupted_file_does_not_appear(tmp_path, what):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(what), files.written(tmp_path / "a", DataError) as temporary:
        temporary.write_bytes(b"half")
        assert names(tmp_path) != ["a"] and (tmp_path / "a").read_bytes() == b"old"
        raise what
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_file_appears_at_the_end_and_not_before(tmp_path, is_durable):
    with files.written(tmp_path / "a", DataError, is_durable=is_durable) as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a").exists()
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"new"


def test_what_is_durable_is_flushed_before_it_has_its_name_and_its_folder_after(tmp_path, monkeypatch):
    seen = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda n: (seen.append(os.readlink(f"/proc/self/fd/{n}")), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("named"), replace(*paths)))
    WRITERS["bytes"](tmp_path / "a")
    assert seen == ["named"]
    seen.clear()
    WRITERS["bytes"](tmp_path / "a", is_durable=True)
    assert seen[0].endswith(".part") and seen[1:] == ["named", str(tmp_path)]


def test_without_force_what_is_there_stays(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(DataError, match="a exists; force=True overwrites it"):
        WRITERS["bytes"](tmp_path / "a", force=False)
    assert (tmp_path / "a").read_bytes() == b"old"
    WRITERS["bytes"](tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    WRITERS["bytes"](tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "file").read_bytes() == b"new"
    assert names(tmp_path / "folder") == ["file"]
    WRITERS["bytes"]("/dev/null", force=False)
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_device_that_refuses_is_one_line():
    with pytest.raises(BankError, match=r"^/dev/full: cannot be written: no space left on device$"):
        files.write_bytes("/dev/full", bytes(1 << 20), BankError)


def test_anybody_may_read_what_the_system_lets_them_read(tmp_path):
    WRITERS["bytes"](tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


# folders


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with files.written_folder(tmp_path / "a", BankError) as new:
        (new / "new").touch()
        assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["new"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_fails_leaves_things_as_they_were(tmp_path, there):
    if there:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old").touch()
    with pytest.raises(KeyboardInterrupt), files.written_folder(tmp_path / "a", BankError) as new:
        (new / "half").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"] * there and (not there or names(tmp_path / "a") == ["old"])


def test_a_folder_that_cannot_get_its_name_gives_the_old_one_back(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    replace = os.replace

    def refuse(source, target):
        if str(source).endswith(".part"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    refused = pytest.raises(BankError, match="a: cannot be written: permission denied")
    with refused, files.written_folder(tmp_path / "a", BankError) as new:
        (new / "new").touch()
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    (tmp_path / ".miao-0123456789ab.part").mkdir()
    (tmp_path / ".miao-0123456789ac.part").touch()
    (tmp_path / "kept").touch()
    files.sweep(tmp_path)
    assert names(tmp_path) == ["kept"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="b: cannot be made: not a directory"):
        files.make_folder(tmp_path / "a" / "b", DataError)
