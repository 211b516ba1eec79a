"""Major made minor and minor major: the one thing a mood may ask for that changes what is written."""

from dataclasses import replace

import numpy as np

from miao.midi.score import Score

# semitones above the tonic -> how far a degree moves; natural minor and major
_TO_MINOR = {4: -1, 9: -1, 11: -1}
_TO_MAJOR = {3: 1, 8: 1, 10: 1}
LEAST = 0.5  # of the cue `mode`, from which on notes are rewritten: a third is major or minor, not in between


def in_mode(score: Score, key: tuple[int, bool], mode: float) -> Score:
    """The score in the major (mode > 0) or minor (< 0) of its tonic: third, sixth and seventh degree move by a
    semitone, other notes and drums stay.

    `key` is the pitch class of the tonic and whether the piece is minor; below a mode of 0.5 either way, or if it
    is in that mode already, nothing changes. Modulations keep the degrees of the home key.
    """
    tonic, is_minor = key
    if abs(mode) < LEAST or (mode < 0) == is_minor:
        return score
    moves = np.zeros(12, np.int64)
    for degree, move in (_TO_MINOR if mode < 0 else _TO_MAJOR).items():
        moves[(tonic + degree) % 12] = move
    tracks = []
    for track in score.tracks:
        notes, pressure = track.notes.copy(), track.key_pressure.copy()
        moved = notes["pitch"] + moves[notes["pitch"] % 12] * ~notes["is_drum"]
        notes["pitch"] = np.clip(moved, 0, 127)
        if not notes["is_drum"].any():
            pressure["pitch"] = np.clip(pressure["pitch"] + moves[pressure["pitch"] % 12], 0, 127)
        order = np.lexsort((notes["pitch"], notes["start"]))
        tracks.append(replace(track, notes=notes[order], key_pressure=pressure))
    return replace(score, tracks=tuple(tracks))
