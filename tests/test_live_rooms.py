"""Rooms that change while one plays: as offline, without a click, and nothing is allocated where a sound card waits."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import miao.live.stage as stage_module
from miao.sound.chorus import USUAL, Chorus
from miao.sound.desk import Desk
from miao.sound.room import ChangingRoom
from miao.sound.rooms import find_room
from miao.synth.note import Strike
from miao.synth.player import FLOOR, Player
from miao.synth.rendering import ROOM_LEVEL
from miao.synth.settings import PlaySettings

if stage_module._compiled is None:
    pytest.skip("the package was installed without a compiler", allow_module_level=True)

SIZE = 256
COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
static __thread int is_counting; static __thread long n_asked;
void counting(int is_on) { is_counting = is_on; n_asked = 0; }
long asked(void) { return n_asked; }
#define NEXT(name) static void *(*next)(); if (!next) *(void **)&next = dlsym(RTLD_NEXT, name); n_asked += is_counting
void *malloc(size_t n) { NEXT("malloc"); return next(n); }
void *realloc(void *p, size_t n) { NEXT("realloc"); return next(p, n); }
void *__libc_calloc(size_t, size_t);  /* dlsym asks for calloc itself */
void *calloc(size_t m, size_t n) { n_asked += is_counting; return __libc_calloc(m, n); }
void *memalign(size_t a, size_t n) { NEXT("memalign"); return next(a, n); }
void *aligned_alloc(size_t a, size_t n) { NEXT("aligned_alloc"); return next(a, n); }
void free(void *p) { static void (*next)(void *); if (!next) *(void **)&next = dlsym(RTLD_NEXT, "free");
                     n_asked += is_counting; next(p); }
"""
PLAYED = """
import ctypes, sys
import numpy as np
import miao.live.stage as module
from miao.bank.bank import Bank
from miao.sound.rooms import find_room
from miao.synth.note import Strike
from miao.synth.settings import PlaySettings

counter = ctypes.CDLL(sys.argv[1])
stage = module.Stage(Bank.load("gm", 1), (0,), PlaySettings(polyphony=16), room=find_room("booth"))
for n in range(24):
    stage.player.start(Strike(0.01 * n, 0, (0, 19, 48)[n % 3], 40 + n, 0.7, send=1.0 + n % 2))
rooms = [find_room(name) for name in ("studio", "none", "booth", "plate", "studio", "booth")]
out, place, number = np.zeros(512, np.float32), ctypes.c_void_p, ctypes.c_ulong
kind = ctypes.CFUNCTYPE(ctypes.c_int, place, place, number, place, number, place)
callback = kind(module._compiled.callback)
counter.counting(1)
kept = np.empty(100_000), np.zeros(100_000)
assert counter.asked() >= 2
found = 0
for n in range(60):
    stage.advance((n + 1) * 256 / 44100)
    stage.look_ahead(n * 256 / 44100)
    if n % 8 == 7 and rooms:
        stage.change_room(rooms.pop())
    arguments = None, out.ctypes.data, 256, None, 0, stage.engine.address
    counter.counting(1)
    callback(*arguments)
    found += counter.asked()
    counter.counting(0)
print(found, float(np.abs(out).max()))
"""


def chord(player):
    for pitch in (57, 61, 64):
        player.start(Strike(0.0, 0, 0, pitch, 0.7))


def held_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def changing(stage, changes, n_blocks):
    """What the engine makes in blocks of `SIZE`, the rooms being changed before some of them: [2, n]."""
    out = []
    for n in range(n_blocks):
        if n in changes:
            stage.change_room(changes[n])
        end = (n + 1) * SIZE / stage.sample_rate
        stage.advance(end)
        stage.look_ahead(end)
        out.append(np.empty((2, SIZE), np.float32))
        stage.engine.render(out[-1])
    return np.concatenate(out, axis=1)


def test_rooms_change_live_as_they_do_offline(toy_bank):
    changes = {20: find_room("studio"), 60: None, 100: find_room("booth")}
    stage = stage_module.Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=find_room("booth"))
    chord(stage.player)
    live = changing(stage, changes, 200)
    player, desk = Player(toy_bank, (0,), PlaySettings()), Desk(44_100, 1, ("reverb", "chorus"))
    chorus = Chorus(44_100, USUAL)
    chord(player)
    room, pieces = ChangingRoom(44_100, find_room("booth"), 1024), []
    for n in range(200):
        if n in changes:
            room.change(changes[n])
        block = player.block(SIZE)
        lines, sent = desk.mix(block.start_sample, block.stems, block.busy, block.extra)
        wet = room.process(np.float32(ROOM_LEVEL) * sent["reverb"])
        pieces.append(lines.sum(axis=0) + wet + chorus.process(sent["chorus"]))
    expected = np.concatenate(pieces, axis=1)
    np.testing.assert_allclose(live, expected, atol=10 ** (-90 / 20) * np.abs(expected).max() + FLOOR)


def test_more_rooms_than_there_are_places_for_do_not_click_and_the_last_one_is_heard(toy_bank):
    names = ("studio", "booth", "plate", "club", "none", "studio", "booth", "plate")

    def sound(changes):
        stage = stage_module.Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=find_room("hall"))
        chord(stage.player)
        return changing(stage, changes, 220)

    often = sound({30 + 2 * n: find_room(name) for n, name in enumerate(names)})
    once = sound({30: find_room("plate")})
    still = sound({})
    assert np.abs(np.diff(often)).max() < 1.05 * np.abs(np.diff(still)).max()
    late = slice(210 * SIZE, None)
    assert np.abs(often[:, late] - once[:, late]).max() < 0.5 * np.abs(still[:, late] - once[:, late]).max()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory is held")
def test_rooms_that_are_over_go_back_and_are_freed(toy_bank):
    stage = stage_module.Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=find_room("hall"))
    before = 0
    for n in range(60):  # some 5 MB each
        stage.change_room(find_room("hall"))
        stage.engine.render(np.empty((2, SIZE), np.float32))
        stage.collect()
        if n == 20:
            before = held_bytes()
    assert held_bytes() < before + 100e6


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler, on Linux")
def test_nothing_is_allocated_where_a_sound_card_waits(tmp_path):
    (tmp_path / "counter.c").write_text(COUNTER)
    library = tmp_path / "counter.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "counter.c", "-ldl"], check=True)
    source = Path(__file__).resolve().parents[1] / "src"
    told = subprocess.run(
        [sys.executable, "-c", PLAYED, library], check=True, capture_output=True, text=True,
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(source)},
    ).stdout.split()  # fmt: skip
    assert int(told[0]) == 0 and float(told[1]) > 1e-3
