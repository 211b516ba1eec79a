"""A take: what is played, as MIDI, and how it sounds, as a WAV of what went to the card."""

import io
from pathlib import Path
from types import TracebackType
from typing import Self

import mido
import numpy as np

from miao.errors import AudioError
from miao.files import check_target, write_bytes
from miao.live.instrument import Instrument
from miao.sound.writer import AudioWriter

_DIVISION, _TICKS_A_SECOND = 480, 960
_AT_ONCE = 1 << 16


class Take:
    """Records an instrument into NAME.mid and NAME.wav; use it in a `with`, and call `collect` a few times a second.

    Raises: AudioError if one of the files is there and not ``force``, or cannot be written.
    """

    def __init__(self, instrument: Instrument, name: str | Path, *, force: bool = False) -> None:
        stage = instrument.stage
        self.midi_path, self.sound_path = (Path(f"{name}.{suffix}") for suffix in ("mid", "wav"))
        check_target(self.midi_path, AudioError, force=force)
        self._engine, self._start = stage.engine, stage.now()
        self._writer = AudioWriter(self.sound_path, stage.sample_rate, 2, force=force)
        self._messages: list[tuple[float, bytes]] = []
        instrument.heard_message = lambda time, message: self._messages.append((time, message))

    def __enter__(self) -> Self:
        self._writer.__enter__()
        self._engine.set_taping(True)
        return self

    def collect(self) -> None:
        """Writes the sound that has come since."""
        samples = np.empty(_AT_ONCE, np.float32)
        while n := self._engine.taped(samples) & ~1:
            self._writer.write(np.ascontiguousarray(samples[:n].reshape(-1, 2).T))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.set_taping(False)
        self.collect()
        self._writer.__exit__(kind, error, trace)
        write_bytes(self.midi_path, self._as_file(), AudioError)

    def _as_file(self) -> bytes:
        file, track, now = mido.MidiFile(type=0, ticks_per_beat=_DIVISION), mido.MidiTrack(), 0
        for time, message in self._messages:
            tick = max(round((time - self._start) * _TICKS_A_SECOND), now)
            track.append(mido.Message.from_bytes(message, time=tick - now))
            now = tick
        file.tracks.append(track)
        data = io.BytesIO()
        file.save(file=data)
        return data.getvalue()
