"""Playing live from a page: MIDI bytes come in through a socket, the sound of a compiled engine goes out.

A clock in place of a sound card drives the engine, as `miao live --card none` does, and what it plays is taped and sent
on, a few milliseconds at a time; how much of it waits on the other side is the page's to choose.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from miao.bank.bank import Bank
from miao.live.instrument import N_CHANNELS, Instrument
from miao.live.stage import Stage
from miao.midi.general_midi import GM_DRUM_KITS
from miao.sound.rooms import find_room
from miao.synth.arrangement import TrackChanges
from miao.synth.settings import PlaySettings
from miao.web.guard import Refusal, number_of
from miao.web.songs import wished

SAMPLE_RATE = 44_100
BLOCK_SAMPLES = 256
PUMP_SECONDS = 0.005
GAIN_DB = 14.0
MOST_MESSAGES_A_SECOND = 2000
VELOCITIES = (90, 80, 100, 70, 110, 60, 120)  # that the computer's keys strike with
DRUM_CHANNEL = 9
_AT_ONCE = 8192


class Keyboard:
    """One page's instrument; `choose` one before anything else and `close` when the page goes, both from a thread that
    may wait."""

    def __init__(self, bank: Bank, polyphony: int, find: Callable[[str], Any]) -> None:
        self._bank, self._find = bank, find
        self._settings = PlaySettings(sample_rate=SAMPLE_RATE, polyphony=polyphony)
        self._instrument: Instrument | None = None
        self._told: dict[str, Any] = {}  # which instrument it is
        self._lock, self._is_closed = threading.Lock(), False
        self._buffer = np.empty(_AT_ONCE, np.float32)
        self._second, self._n_messages = 0, 0
        self.n_dropped = 0

    def choose(self, wish: dict[str, Any]) -> bool:
        """Plays an instrument in a room from here on; gives whether it is a new one, so that what sounded is gone.

        Where only the room is another, all sounds on. Raises: MiaoError.
        """
        told: dict[str, Any] = {key: wish[key] for key in ("program", "variation", "kit", "voice") if key in wish}
        made = wished({"tracks": {"1": told}, "room": wish.get("room", "hall")})
        changes, room = made.tracks.get(1, TrackChanges()), made.room or "hall"
        if changes.kit >= 0 and changes.kit not in GM_DRUM_KITS:
            raise Refusal("there is no such kit")
        if self._instrument is not None and told == self._told:
            self._instrument.stage.change_room(find_room(room))
            return False
        instrument = self._made(changes, room)
        with self._lock:
            self._dismiss()
            self._instrument, self._told = instrument, told
            instrument.stage.engine.set_taping(True)
            instrument.stage.engine.start_clock(BLOCK_SAMPLES)
            instrument.start()
            if self._is_closed:  # meanwhile
                self._dismiss()
        return True

    def _made(self, changes: TrackChanges, room: str) -> Instrument:
        bank, voices = self._bank, {}
        program = max(changes.program - 1, 0)
        if changes.voice:
            voices = {0: len(bank.table.kind)}
            bank = bank.with_voices([self._find(changes.voice)])
        stage = Stage(bank, range(N_CHANNELS), self._settings, gain_db=GAIN_DB, room=find_room(room))
        instrument = Instrument(stage, voices=voices, velocities=VELOCITIES)
        instrument.choose(0, program, changes.variation)
        if changes.kit >= 0:
            instrument.choose(DRUM_CHANNEL, changes.kit)
        elif bank.encode is None:  # where notes hear each other, nothing is known before they sound
            instrument.expect(0, program, changes.variation)
        return instrument

    def close(self) -> None:
        """Silence, and no more threads."""
        with self._lock:
            self._is_closed = True
            self._dismiss()

    def _dismiss(self) -> None:
        instrument, self._instrument = self._instrument, None
        if instrument is not None:
            try:
                instrument.stop()
            finally:
                instrument.stage.engine.stop_clock()

    def put(self, message: bytes) -> None:
        """A MIDI message, as long as there are not too many. Raises: Refusal if it is none."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._n_messages = second, 0
        self._n_messages += 1
        if not 1 <= len(message) <= 3 or message[0] < 0x80 or any(byte > 0x7F for byte in message[1:]):
            raise Refusal("bytes are one MIDI message of one to three bytes")
        if self._n_messages > MOST_MESSAGES_A_SECOND:
            self.n_dropped += 1
        elif self._instrument is not None:
            self._instrument.put(message)

    def taped(self) -> bytes:
        """What has been played since: samples of both channels in turn, f4, little-endian."""
        if self._instrument is None:
            return b""
        n = self._instrument.stage.engine.taped(self._buffer) & ~1
        return self._buffer[:n].astype("<f4").tobytes()

    def state(self) -> dict[str, Any]:
        """How the engine is."""
        if self._instrument is None:
            return {}
        counts = self._instrument.stage.engine.counts()
        return {"voices": counts["voices"], "dropouts": counts["dropouts"]}

    async def pump(self, send: Callable[[bytes], Any]) -> None:
        """Sends on what is played, for as long as it is let."""
        with suppress(asyncio.CancelledError):
            while True:
                if sound := self.taped():
                    await send(sound)
                await asyncio.sleep(PUMP_SECONDS)


def echoed(keyboard: Keyboard, message: dict[str, Any]) -> dict[str, Any]:
    """The answer to a page that measures how far away we are."""
    return {"tell": "pong", "at": number_of(message, "at", 0, 1e15, 0.0),
            "block": BLOCK_SAMPLES / SAMPLE_RATE} | keyboard.state()  # fmt: skip
