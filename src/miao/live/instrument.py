"""MIDI as it comes becomes sound: messages go through the sound module that files go through, and onto the stage.

`Instrument.play` takes one message at a time and may be called by whoever makes blocks; `Instrument.serve` does so in a
thread, for messages that any thread may `put`.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from miao.bank.voices import DRUM_KEYS
from miao.expression.moods import Cues, cues_of
from miao.live.attacks import VELOCITIES, Preparing
from miao.live.feeling import Feeling
from miao.live.routing import Routing
from miao.live.stage import Stage, clock_ns
from miao.midi.events import (
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    Action,
    Catch,
    Control,
    Cut,
    Event,
    KeyPressure,
    KeyTuning,
    KeyUp,
    Release,
    Silence,
    Start,
)
from miao.midi.module import Module
from miao.synth.note import Strike

N_CHANNELS = 16
PREPARED_KEYS = range(36, 97)
ACTIVE_SENSING, SYSTEM_RESET = 0xFE, 0xFF
SENSING_SECONDS = 0.4  # a sender that has said so once says something every 0.3 s (MIDI 1.0), or is gone
ROUND_SECONDS = 0.005  # of silence, then what is needed soon is written,
LOOK_SECONDS = 0.05  # or after this while where there is none
_ALL_SOUND_OFF, _RESET, _ALL_NOTES_OFF, _SUSTAIN, _SOSTENUTO, _BANK = 120, 121, 123, 64, 66, 0


@dataclass
class _Source:
    """What one keyboard holds."""

    keys: set[tuple[int, int]] = field(default_factory=set)  # channel, key
    channels: set[int] = field(default_factory=set)
    is_sensing: bool = False
    last_ns: int = 0


class Instrument:
    """Sixteen channels that play a stage; ``voices`` says of some (from 0) which voice plays all their notes.

    ``mood`` is what they are played in; two controllers, ``plane``, add to it a point of the plane of moods, valence
    and arousal, 0 at 64. They then say nothing else. Once `start` was called, attacks of the voices that are played are
    written beforehand for some ``velocities``, the first ones first.
    """

    def __init__(
        self, stage: Stage, routing: Routing | None = None, voices: Mapping[int, int] | None = None, *,
        mood: Cues | None = None, plane: tuple[int, int] | None = None, velocities: Iterable[int] = VELOCITIES,
    ) -> None:  # fmt: skip
        self._velocities = tuple(velocities)
        self._prepared: set[int] = set()  # voices
        self._preparing: Preparing | None = None
        self.stage, self.routing, self.voices = stage, routing or Routing(), dict(voices or {})
        self._mood, self._plane, self._point = mood or Cues(), plane or (), [0.0, 0.0]
        self.feeling = Feeling(
            lambda lane, name, value, time: self.stage.player.control(lane % N_CHANNELS, name, value, time)
        )
        self.feeling.set(self._mood, 0.0)
        self.n_thinned = 0  # note-ons that came faster than they can be played
        self.error: BaseException | None = None  # what ended `serve`
        self._module = Module()
        self._handles: dict[int, int] = {}  # by the module's number of a note
        self._sources: dict[int, _Source] = {}
        self._inbox: queue.SimpleQueue[tuple[int, int, bytes]] = queue.SimpleQueue()
        self._latest = 0.0  # what is settled; nothing counts from before it
        self._looked_ns = 0
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        # who wants to know what was played, and when
        self.heard_message: Callable[[float, bytes], None] = lambda time, message: None

    # one message

    def play(self, time: float, message: bytes, source: int = 0) -> None:
        """A message counts from a time (seconds) on, but not from before the one played last."""
        time = self._latest = max(time, self._latest)
        if not message:
            return
        if message[0] == SYSTEM_RESET:
            self.panic(time)
            return
        state = self._sources.setdefault(source, _Source())
        if message[0] == ACTIVE_SENSING:
            state.is_sensing = True
        for each in self.routing.route(message):
            event = Event.of(each, track=source)
            if event is None:
                continue
            self.heard_message(time, each)
            if event.kind == CONTROL and event.first in self._plane:
                self._steer(time, event.first, event.second)
                continue
            self._note_what_is_held(state, event)
            self._do(self._module.feed(time, event))

    def choose(self, channel: int, program: int, variation: int = 0) -> None:
        """A channel (from 0) plays a program (from 0), or a variation of it, from here on."""
        if variation:
            self._do(self._module.feed(self._latest, Event(CONTROL, channel, _BANK, variation)))
        self._do(self._module.feed(self._latest, Event(PROGRAM, channel, program, program)))

    def prepare(self, voice: int, keys: Iterable[int] = PREPARED_KEYS) -> None:
        """A voice will be played."""
        if voice not in self._prepared:
            self._prepared.add(voice)
            self.stage.attacks.want(voice, keys, self._velocities)

    def expect(self, channel: int, program: int, variation: int = 0) -> None:
        """A channel will be played, with a program (both from 0), or a variation of it, if none of its own voices is
        there."""
        voice = self.voices.get(channel)
        if voice is None:  # a learnt one may play in the program's place
            voice = self.stage.bank.voice(program, PREPARED_KEYS[0], is_drum=False, bank=128 * variation)
        self.stage.player.prefetch(voice, PREPARED_KEYS)
        self.prepare(voice)

    def _steer(self, time: float, number: int, value: int) -> None:
        """A controller of the plane of moods has a value."""
        self._point[self._plane.index(number)] = max((value - 64) / 63, -1.0)
        valence, arousal = self._point
        self.feeling.set(self._mood.plus(cues_of(valence=valence, arousal=arousal)), time)

    def panic(self, time: float) -> None:
        """Everything falls silent, and all controllers stand as at the start."""
        for channel in range(N_CHANNELS):
            self._control(time, channel, _ALL_NOTES_OFF, _SUSTAIN, _SOSTENUTO, _ALL_SOUND_OFF, _RESET)
        for handle in list(self.stage.player.notes):
            self.stage.player.cut(handle, time)

    def lose(self, time: float, source: int) -> None:
        """A keyboard is gone: what it holds is let go, and its channels fall silent."""
        state = self._sources.pop(source, None)
        if state is None:
            return
        for channel, key in sorted(state.keys):
            self.play(time, bytes([NOTE_OFF | channel, key, 64]), source)
        for channel in sorted(state.channels):
            self._control(time, channel, _SUSTAIN, _SOSTENUTO, _ALL_SOUND_OFF)
        self._sources.pop(source, None)

    def _control(self, time: float, channel: int, *numbers: int) -> None:
        for number in numbers:
            self._do(self._module.feed(max(time, self._latest), Event(CONTROL, channel, number, 0)))

    def _note_what_is_held(self, state: _Source, event: Event) -> None:
        state.channels.add(event.lane)
        key = (event.lane, event.first)
        if event.kind == NOTE_ON and event.second:
            state.keys.add(key)
        elif event.kind in (NOTE_ON, NOTE_OFF):
            state.keys.discard(key)

    def _do(self, actions: Iterable[Action]) -> None:
        player = self.stage.player
        for action in actions:
            if isinstance(action, Start):
                self._start(self.feeling.start(action))
            elif isinstance(action, Control):
                self.feeling.control(action)
            elif isinstance(action, KeyPressure):
                player.press(action.lane % N_CHANNELS, action.pitch, action.value, action.time)
            elif isinstance(action, KeyTuning):
                player.tune(action.lane % N_CHANNELS, action.pitch, action.cents, action.time)
            elif isinstance(action, Silence):
                for handle, note in list(player.notes.items()):
                    if note.strike.part == action.lane % N_CHANNELS:
                        player.cut(handle, action.time)
            elif isinstance(action, Release | Catch | Cut | KeyUp) and action.note in self._handles:
                tell = {Release: player.release, Catch: player.catch, Cut: player.cut, KeyUp: player.lift}[type(action)]
                tell(self._handles[action.note], action.time)

    def _start(self, start: Start) -> None:
        part, sound, shape = start.lane % N_CHANNELS, start.sound, start.shape
        voice = self.voices.get(part)
        rings = sound.is_drum if voice is None else voice in self.stage.bank.own_kits
        if rings and start.pitch not in DRUM_KEYS:  # a kit has no other keys
            return
        if voice is None:
            voice = self.stage.player.voice(sound.program, start.pitch, is_drum=sound.is_drum, bank=sound.bank)
        self.prepare(voice, (start.pitch,) if rings else PREPARED_KEYS)
        self._handles[start.note] = self.stage.player.start(
            Strike(
                start.time, part, voice, start.pitch, start.velocity / 127, rings, shape.tuning, shape.glide,
                shape.glide_seconds, shape.gain, shape.pan, shape.send,
            )
        )  # fmt: skip

    # all that come

    def put(self, message: bytes, source: int = 0, at_ns: int | None = None) -> None:
        """A message came; empty: its source is gone. For any thread."""
        self._inbox.put((clock_ns() if at_ns is None else at_ns, source, bytes(message)))

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self._serve, name="miao live", daemon=True)
        self._thread.start()
        self._preparing = Preparing(self.stage.attacks)

    def stop(self) -> None:
        """End the threads. Raises: what went wrong in them."""
        self._is_over.set()
        if self._preparing is not None:
            self._preparing.stop()
        if self._thread is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error

    def _serve(self) -> None:
        with suppress(AttributeError, OSError):  # ahead of other programs, where that is allowed
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
        try:
            while not self._is_over.is_set():
                self.round(ROUND_SECONDS)
        except BaseException as error:  # told to whoever stops us
            self.error = error

    def round(self, patience: float = 0.0) -> None:
        """Plays what has come, waiting for it for some seconds, and writes what will be heard soon."""
        batch = []
        with suppress(queue.Empty):
            batch.append(self._inbox.get(timeout=patience) if patience else self._inbox.get_nowait())
            while True:
                batch.append(self._inbox.get_nowait())
        stage = self.stage
        block = stage.engine.counts()["block_samples"] / stage.sample_rate
        for at_ns, source, message in self._thinned(batch):
            # heard a block after it came, wherever in the last one that was: steady, not as soon as can be
            time = max(stage.now(at_ns) + block, self._latest)
            if message:
                self.play(time, message, source)
                if source in self._sources:
                    self._sources[source].last_ns = at_ns
            else:
                self.lose(time, source)
        now_ns = clock_ns()
        for source, state in list(self._sources.items()):
            if state.is_sensing and now_ns - state.last_ns > SENSING_SECONDS * 1e9:
                self.lose(max(stage.now() + block, self._latest), source)
        if self.feeling.grow(time := max(stage.now() + block, self._latest)):
            self._latest = time
        if batch or not stage.player.is_settled(self._latest):
            self._latest = float(np.nextafter(self._latest, np.inf))
            stage.advance(self._latest)
        if not batch or now_ns - self._looked_ns > LOOK_SECONDS * 1e9:  # another key may be waiting for its attack
            stage.look_ahead(stage.now(), is_called=lambda: not self._inbox.empty())
            self._looked_ns = now_ns
        if len(self._handles) > 4 * stage.settings.polyphony:
            alive = stage.player.notes
            self._handles = {note: handle for note, handle in self._handles.items() if handle in alive}

    def _thinned(self, batch: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
        """Of note-ons that have come together no more than can sound, the last ones."""
        starts = [n for n, (_, _, message) in enumerate(batch) if _is_note_on(message)]
        left_out = set(starts[: max(len(starts) - self.stage.settings.polyphony, 0)])
        self.n_thinned += len(left_out)
        return [entry for n, entry in enumerate(batch) if n not in left_out]


def _is_note_on(message: bytes) -> bool:
    return len(message) == 3 and message[0] & 0xF0 == NOTE_ON and message[2] > 0
