"""Phrases against a collection of songs with their lines of text: where `find_phrases` cuts, and F1 of the boundaries.

    python bench/phrases.py MUSIC21.whl            every song whose name is not among those that were tuned on
    python bench/phrases.py MUSIC21.whl --tuned    the others

The Essen folk songs, as the wheel of music21 holds them in ABC (`pip download --no-deps music21`): a line of a file
is a phrase of the song, which is how Temperley (2001) and Pearce, Muellensiefen and Wiggins (2010) measured it.
A boundary is right if the very note is. Songs with one phrase, without a metre or with fewer than 8 notes are left out.
Every tenth song by the checksum of its name was used to choose the weights in `phrases.py`, the others were not.
"""

import argparse
import re
import zipfile
import zlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from miao.expression.phrases import Line, boundary_strengths, find_phrases

STEPS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
SHARPS = dict(zip(("F", "C", "G", "D", "A", "E", "B", "F#", "C#"), range(-1, 8), strict=True))
SHARPS |= {"Bb": -2, "Eb": -3, "Ab": -4, "Db": -5, "Gb": -6, "Cb": -7}
TOKEN = re.compile(r"(\^{1,2}|_{1,2}|=)?([A-Ga-gzx])([,']*)(\d*)(/*)(\d*)|(\|)|(\()(\d)|([<>])")


@dataclass(frozen=True)
class Song:
    title: str
    line: Line
    firsts: np.ndarray  # the first notes of its phrases


def read_songs(wheel: str) -> list[Song]:
    """All songs with two phrases or more that have a metre."""
    songs = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "essenFolksong/" in name and name.endswith(".abc") and "/test" not in name:
                text = archive.read(name).decode("latin-1")
                songs += [song for part in re.split(r"\n(?=X:)", text) if (song := read_song(part)) is not None]
    return songs


def read_song(text: str) -> Song | None:
    """A song in ABC, or None if it is of no use here."""
    fields = dict(re.findall(r"^([A-Z]):\s*(.*?)\s*$", text, re.MULTILINE))
    meter = re.fullmatch(r"(\d+)/(\d+)", fields.get("M", ""))
    body = re.split(r"^K:.*\n", text, maxsplit=1, flags=re.MULTILINE)
    if meter is None or len(body) < 2 or "X" not in fields:
        return None
    unit = Fraction(fields.get("L", "1/8")) * 4  # quarters
    key = re.match(r"([A-G][b#]?)\s*(m?)", fields.get("K", "C"))
    n_sharps = SHARPS.get(key[1], 0) - 3 * bool(key[2]) if key else 0
    sharp = {**{s: 1 for s in "FCGDAEB"[: max(n_sharps, 0)]}, **{s: -1 for s in "BEADGCF"[: max(-n_sharps, 0)]}}
    bar = float(Fraction(int(meter[1]), int(meter[2])) * 4)
    now, bar_began, starts, ends, pitches, places, firsts = 0.0, 0.0, [], [], [], [], []
    for row in body[1].splitlines():
        if re.match(r"[A-Z]:|%", row):
            continue
        is_first = True
        for token in TOKEN.finditer(row):
            accidental, letter, marks, times, slashes, divisor, barline = token.groups()[:7]
            if barline:
                bar_began = now
            if letter is None:
                continue
            length = float(unit * int(times or 1) / (int(divisor) if divisor else 2 ** len(slashes)))
            if letter not in "zx":
                if is_first:
                    firsts.append(len(starts))
                    is_first = False
                step = letter.upper()
                shift = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}.get(accidental, sharp.get(step, 0))
                octave = letter.islower() + marks.count("'") - marks.count(",")
                starts.append(now)
                ends.append(now + length)
                pitches.append(60 + STEPS[step] + shift + 12 * octave)
                places.append(((now - bar_began) / bar) % 1)
            now += length
    if len(firsts) < 2 or len(starts) < 8:
        return None
    first_line = next((i for i, p in enumerate(places) if i and p == 0), 0)  # an upbeat lies at the end of its bar
    if first_line > 0 and starts[first_line] < bar - 1e-6:
        for i in range(first_line):
            places[i] = 1 - (starts[first_line] - starts[i]) / bar
    arrays = (np.array(x, float) for x in (starts, ends, pitches, places))
    return Song(fields.get("T", "") + fields.get("N", ""), Line(*arrays), np.array(firsts))


def is_tuned(title: str) -> bool:
    return zlib.crc32(title.encode()) % 10 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel")
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args()
    songs = [song for song in read_songs(options.wheel) if is_tuned(song.title) == options.tuned]
    rows = []
    for song in songs:
        found = set(find_phrases(song.line, boundary_strengths(song.line)).tolist()) - {0}
        true = set(song.firsts.tolist()) - {0}
        rows.append((len(found & true), len(found), len(true)))
    hits, found, true = np.array(rows, float).T
    each = 2 * hits / np.maximum(found + true, 1)
    error = 1.96 * each.std() / np.sqrt(len(each))
    precision, recall = hits.sum() / found.sum(), hits.sum() / true.sum()
    print(
        f"{len(songs)} songs, {int(true.sum())} boundaries: F1 of a song {each.mean():.3f} ± {error:.3f}; "
        f"all together precision {precision:.3f}, recall {recall:.3f}, F1 "
        f"{2 * precision * recall / (precision + recall):.3f}"
    )


if __name__ == "__main__":
    main()
