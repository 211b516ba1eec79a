"""Measured tokens put right by their sound: played back, compared with the note, and moved by what is missing.

Frames tell partials from noise and both from time only so far. What they get wrong is heard: of the difference of two
log-mel spectrograms each cell gets what the bands around its partials, or within its noise band, lack at the time of
each token. So an encoder is right by the sound that its tokens make, not by the measurement alone.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Flags, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.voices import VoiceTable, is_drum_voice, pitch_hz
from miao.measuring.note import Measured, analyse_note
from miao.measuring.power import band_shares
from miao.measuring.roundtrip import encoded_bank, one_note_score, play
from miao.measuring.voice_fit import VoiceFit
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE

_PASSES = 2  # a cell is heard in several bands, so that some is missing still; a third gives a fiftieth of a decibel
_SHARE = 0.9  # of what is missing that is added
_NEAR_FRAMES = 3  # that a difference is the mean of: single frames are 0.01 dB worse, as phases and noise are chance
_VELOCITY = 100  # of the note that is played; measured tokens are played the same at any


def measure_note(sound: Floats, pitch: int, hold_seconds: float, fit: VoiceFit) -> Measured:
    """`analyse_note` of a note of a pitch (at 44.1 kHz), its tokens put right by their sound; of a voice fitted to it.

    Shape: sound [channels, S].
    """
    measured = analyse_note(sound, SAMPLE_RATE, float(pitch_hz(pitch)), hold_seconds, fit.partials())
    return replace(measured, tokens=put_right(measured.tokens, sound, fit.table(), 0, pitch))


def put_right(tokens: tk.NoteTokens, sound: Floats, table: VoiceTable, voice: int, pitch: int) -> tk.NoteTokens:
    """Measured tokens of a note moved towards its sound, as a voice of a table plays them at a pitch. Silent cells stay
    silent. Shape: sound [channels, S] at 44.1 kHz."""
    cells = band_shares(table.partials(voice, pitch), float(pitch_hz(pitch))) / tk.LEVEL_STEP_DB
    table = replace(table, trim_db=np.zeros_like(table.trim_db))
    held, release = (chunks.astype(np.float32) for chunks in (tokens.held, tokens.release))
    taught = None if is_drum_voice(voice) else voice
    score = one_note_score(voice, pitch, _VELOCITY, tokens.hold_seconds)
    theirs = _heard(sound)
    for number in range(1, 1 + _PASSES):  # phases and noise of each are others
        bank = encoded_bank(_quantised(held, release, tokens.hold_seconds), table)
        ours = play(bank, score, seed=number, voice=taught)
        lacks = _missing(theirs, _heard(ours), max(sound.shape[1], ours.shape[1]))
        for chunks, times in (
            (held, tk.held_times(len(held))),
            (release, tokens.hold_seconds + tk.release_times(len(release))),
        ):
            levels = chunks[..., : tk.PITCH_CELL]
            moved = levels + _SHARE * (_at_times(lacks, times) @ cells).reshape(levels.shape)
            levels[...] = np.where(levels >= 0.5, np.clip(moved, 0.5, tk.N_LEVELS - 1), levels)
    return _quantised(held, release, tokens.hold_seconds)


def missing_over_time(theirs: Reals, ours: Reals) -> Floats:
    """What a sound lacks against another one, dB, [frames, N_MELS]: means over a few frames of the differences of their
    log-mel spectrograms where either is audible, 0 elsewhere. Shapes: [channels, S] each."""
    return _missing(_heard(theirs), _heard(ours), max(theirs.shape[1], ours.shape[1]))


def _heard(sound: Reals) -> Floats:
    """The log-mel spectrogram of a sound to where no frame hears any more of it."""
    return spectrum.log_mel(np.pad(sound, ((0, 0), (0, spectrum.FRAME_SAMPLES // 2))))


def _missing(theirs: Floats, ours: Floats, n_samples: int) -> Floats:
    lacks = spectrum.audible_difference(theirs, ours)[: n_samples // spectrum.HOP_SAMPLES + 1]
    is_audible = ~np.isnan(lacks)
    difference = np.where(is_audible, lacks, 0)
    return (_near_sums(difference) / np.maximum(_near_sums(is_audible), 1)).astype(np.float32)


def _near_sums(values: Floats | Flags) -> Floats:
    """Sums over each frame and those beside it, [frames, N_MELS]."""
    padded = np.pad(values.astype(np.float32), ((_NEAR_FRAMES // 2, _NEAR_FRAMES // 2), (0, 0)))
    sums: Floats = np.lib.stride_tricks.sliding_window_view(padded, _NEAR_FRAMES, axis=0).sum(axis=2)
    return sums


def _at_times(frames: Floats, times: Doubles) -> Floats:
    """Frames of a spectrogram at some times (seconds), in straight lines between them: [times, N_MELS]."""
    position = np.clip(times * SAMPLE_RATE / spectrum.HOP_SAMPLES, 0, len(frames) - 1)
    low = np.minimum(position.astype(int), len(frames) - 2)
    share = (position - low).astype(np.float32)[:, None]
    found: Floats = (1 - share) * frames[low] + share * frames[low + 1]
    return found


def _quantised(held: Floats, release: Floats, hold_seconds: float) -> tk.NoteTokens:
    chunks: list[NDArray[np.uint8]] = [np.rint(x).astype(np.uint8) for x in (held, release)]
    return tk.NoteTokens(chunks[0], chunks[1], hold_seconds)
