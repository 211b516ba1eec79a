"""A whole score played by a SoundFont: the sampler that benchmarks are made with, and that miao is compared with.

FluidSynth's own player reads each track as a MIDI file, so that controllers, pedals and bends are its business; a track
after another, so that stems, and more than sixteen tracks, come for free. It adds up sounds without any limiter, and
its reverb and chorus are linear: the mix is the sum of the stems, with effects or without.
"""

import ctypes
import hashlib
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Floats
from miao.datasets.soundfont import SAMPLE_RATE
from miao.errors import DataError, missing
from miao.midi.score import Score, Track
from miao.midi.writing import write_score

GAIN = 0.2  # FluidSynth's default
BLOCK_SAMPLES = 4416  # 69 of FluidSynth's blocks, 0.1 s
POLYPHONY = 4096
_DRUM_CHANNEL = 9
_DONE = 3  # FLUID_PLAYER_DONE


class Sampler:
    """A SoundFont that plays scores at 44.1 kHz, each track by a new synthesizer: same track, same samples."""

    def __init__(self, path: str | Path, effects: bool = False) -> None:
        """Raises: DataError if FluidSynth or the file cannot be opened."""
        self.path, self.effects = Path(path), effects
        if not self.path.is_file():
            raise DataError(f"{path}: no such SoundFont; give the path of an .sf2 or .sf3 file")
        self._open().delete()

    def _open(self) -> Any:
        try:
            import fluidsynth
        except ModuleNotFoundError as error:
            raise missing(error.name or "fluidsynth") from None
        except ImportError as error:
            raise DataError(f"FluidSynth cannot be loaded ({error}); install it (apt-get install fluidsynth)") from None
        synth = fluidsynth.Synth(gain=GAIN, samplerate=SAMPLE_RATE, channels=16, **{
            "synth.reverb.active": int(self.effects), "synth.chorus.active": int(self.effects),
            "synth.polyphony": POLYPHONY, "synth.dynamic-sample-loading": 1, "player.timing-source": "sample",
        })  # fmt: skip
        if synth.sfload(str(self.path)) < 0:
            synth.delete()
            raise DataError(f"{self.path}: not a SoundFont that FluidSynth can read")
        return synth

    def stems(self, score: Score, seconds: float) -> Floats:
        """Each track's sound behind its faders, [tracks, 2, S]; what sounds beyond `seconds` is cut off."""
        sound = np.zeros((len(score.tracks), 2, round(seconds * SAMPLE_RATE)), np.float32)
        with tempfile.TemporaryDirectory() as folder:
            for row, track in zip(sound, score.tracks, strict=True):
                path = Path(folder) / "track.mid"
                write_score(replace(score, tracks=(on_own_channel(track),)), path)
                synth = self._open()  # a new one: what still rings of a track goes on through a reset, for seconds
                try:
                    _play(synth, path, row)
                finally:
                    synth.delete()
        return sound


def _play(synth: Any, path: Path, sound: Floats) -> None:
    import fluidsynth

    write = fluidsynth._fl.fluid_synth_write_float
    channel = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    write.argtypes = [ctypes.c_void_p, ctypes.c_int, *channel, *channel]
    player = fluidsynth.new_fluid_player(synth.synth)
    try:
        fluidsynth.fluid_player_add(player, str(path).encode())
        fluidsynth.fluid_player_play(player)
        for first in range(0, sound.shape[1], BLOCK_SAMPLES):
            block = np.zeros((2, BLOCK_SAMPLES), np.float32)
            left, right = (row.ctypes.data_as(ctypes.c_void_p) for row in block)
            write(synth.synth, BLOCK_SAMPLES, left, 0, 1, right, 0, 1)
            n = min(BLOCK_SAMPLES, sound.shape[1] - first)
            sound[:, first : first + n] = block[:, :n]
            if fluidsynth.fluid_player_get_status(player) == _DONE and not block.any():
                break
        fluidsynth.fluid_player_stop(player)
    finally:
        fluidsynth.delete_fluid_player(player)


def on_own_channel(track: Track) -> Track:
    """The track with its drums on channel 10 and anything else off it, without banks: General MIDI has none."""
    notes = track.notes.copy()
    notes["bank"] = 0
    is_drum = bool(notes["is_drum"].any())
    channel = _DRUM_CHANNEL if is_drum else 0 if track.channel == _DRUM_CHANNEL else track.channel
    return replace(track, notes=notes, channel=channel)


@cache
def file_checksum(path: Path) -> str:
    """SHA-256 of a file, the first 12 digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
