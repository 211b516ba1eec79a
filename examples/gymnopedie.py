"""Satie, Gymnopedie No. 1 (1888): the first eighteen bars for piano, with a close of our own.

The left hand leaves each low note for the chord above it; only the pedal, changed with every bar, holds them together.
"""

from pathlib import Path

from arranging import SUSTAIN, Part, line, save

OUT = Path(__file__).with_suffix(".mid")
BPM = 70
BAR = 3.0

# two chords rock to and fro; each low note is apart from its chord
LOW = line(" | ".join(f"{low}:3" for low in ["G2", "D2"] * 8 + ["F#2", "B1", "E2", "A1", "D2", "G2", "D2"]), bar=3)
CHORDS = line(
    " | ".join(
        f"-:1 {chord}:2"
        for chord in [
            *["B3+D4+F#4", "A3+C#4+F#4"] * 8,
            "A3+C#4+F#4", "B3+D4+F#4", "G3+B3+D4", "G3+C#4", "A3+C#4+F#4", "B3+D4+F#4", "A3+D4+F#4",
        ]
    ),
    bar=3,
)  # fmt: skip
TUNE = "-:1 F#5 A5 | G5 F#5 C#5 | B4 C#5 D5 | A4:3"
MELODY = line(
    f"-:3 | -:3 | -:3 | -:3 | {TUNE} | F#4:1 -:2 | -:3 | -:3 | -:3 |"  # the chords strike this F#4 again
    f"{TUNE} | C#5:3 | F#5:3 | E4:3 | E4:3 | D5:3 | A4:3 | A5:3",
    bar=3,
)
# what each bar is played at, as a share of the first bar's loudness and tempo
LOUD = [0.86, 0.86, 0.88, 0.9, 0.96, 1, 1, 0.96, 0.9, 0.86, 0.84, 0.84, 1, 1.06, 1.06, 1, 1.04, 1.1]
LOUD += [0.92, 0.86, 0.84, 0.8, 0.7]
PACE = [1, 1, 1, 0.99, 0.98, 1.02, 1.01, 0.97, 1, 1, 1, 0.98, 0.99, 1.03, 1.02, 0.98, 0.98, 0.95]
PACE += [0.94, 0.92, 0.9, 0.84, 0.74]


def main() -> None:
    """Write gymnopedie.mid beside this script."""
    piano = Part("Piano", 0, 0, volume=112, reverb=46, loose=0.02)
    n_bars = len(LOUD)
    for notes, velocity, sound in ((LOW, 58, 0.32), (CHORDS, 48, 0.9), (MELODY, 78, 1.0)):
        for note in notes:
            loud = LOUD[int(note.at // BAR)]
            rise = 1.0 + 0.03 * (note.at % BAR == 1) if notes is MELODY else 1.0
            piano.play([note], 0.0, velocity * loud * rise, sound=sound, accent=0)
    for bar in range(n_bars):  # up as the new bass is struck, down again once it sounds
        piano.control(SUSTAIN, bar * BAR + 0.02, 0)
        piano.control(SUSTAIN, bar * BAR + 0.24, 127)
    piano.control(SUSTAIN, n_bars * BAR + 3.5, 0)
    tempi = [(bar * BAR, BPM * pace) for bar, pace in enumerate(PACE)]
    save(OUT, "Gymnopedie No. 1", [piano], tempi, (3, 4))


if __name__ == "__main__":
    main()
