"""Beethoven, Symphony No. 9 (1824), finale: the joy theme, arranged for a small orchestra in three statements.

As in the symphony, the theme starts in the low strings alone, gathers voices, and ends with everybody. The harmony,
the countermelody of the bassoon and the close are ours.
"""

from pathlib import Path

from arranging import Part, line, save

OUT = Path(__file__).with_suffix(".mid")
BPM = 152
STATEMENT = 64.0  # quarter notes, 16 bars

_A = "F#4 F#4 G4 A4 | A4 G4 F#4 E4 | D4 D4 E4 F#4"
THEME = line(
    f"{_A} | F#4:1.5 E4:.5 E4:2 | {_A} | E4:1.5 D4:.5 D4:2 |"
    "E4 E4 F#4 D4 | E4 F#4:.5 G4:.5 F#4 D4 | E4 F#4:.5 G4:.5 F#4 E4 | D4 E4 A3 -:1 |"
    "-:2 G4 A4 | A4 G4 F#4 E4 | D4 D4 E4 F#4 | E4:1.5 D4:.5 D4:2"
)
TIED = line("-:3 F#4:1")[0]  # bar 12: the theme comes back a beat early, tied over the bar line

_ALTO = "D4 D4 D4 D4 | F#4 E4 D4 C#4 | B3 B3 C#4 D4"
ALTO = line(
    f"{_ALTO} | D4:1.5 C#4:.5 C#4:2 | {_ALTO} | C#4:1.5 A3:.5 A3:2 |"
    "C#4 C#4 D4 A3 | C#4 C#4 A3 B3 | A3 A3 C#4 C#4 | B3 B3 A3 C#4 |"
    f"{_ALTO} | C#4:1.5 A3:.5 A3:2"
)
_TENOR = "A3 A3 B3 A3 | A3 A3 A3 A3 | F#3 F#3 A3 A3"
TENOR = line(
    f"{_TENOR} | A3:1.5 A3:.5 A3:2 | {_TENOR} | G3:1.5 F#3:.5 F#3:2 |"
    "A3 A3 A3 F#3 | A3 A3 F#3 F#3 | G3 G3 A#3 A#3 | F#3 G#3 E3 G3 |"
    f"{_TENOR} | G3:1.5 F#3:.5 F#3:2"
)
_BASS = "D3 D3 G2 F#2 | D3 C#3 D3 A2 | B2 B2 A2 D3"
BASS = line(
    f"{_BASS} | A2:1.5 A2:.5 A2:2 | {_BASS} | A2:1.5 D3:.5 D3:2 |"
    "A2 A2 D3 D3 | A2 C#3 D3 B2 | C#3 C#3 A#2 F#2 | B2 E3 C#3 A2 |"
    f"{_BASS} | A2:1.5 D3:.5 D3:2"
)
COUNTER = line(
    "D4:1.5 C#4:.5 B3 D4 | A3 G3 F#3:.5 G3:.5 A3 | B3 D4 C#4 A3 | A3 F#3:.5 A3:.5 C#4:.5 B3:.5 A3:.5 G3:.5 |"
    "F#3 A3 B3 D4 | A3 C#4 D4 E4 | D4 B3 A3 F#3 | G3:1.5 F#3:.5 F#3:.5 G3:.5 A3:.5 B3:.5 |"
    "C#4 A3 A3:.5 G3:.5 F#3 | G3 A3:.5 G3:.5 F#3:.5 G3:.5 F#3 | E3 A3 C#4:1.5 A#3:.5 | B3 G#3 A3 G3 |"
    "F#3 A3 B3 D4 | A3 C#4 D4 E4 | D4 B3 A3 F#3 | G3:1.5 F#3:.5 F#3:2"
)
# broken chords in eighths under the tutti: two notes a beat, up to the highest and back
_BROKEN = {
    "D": "D4 F#4 A4", "G": "D4 G4 B4", "A": "C#4 E4 A4", "B": "D4 F#4 B4", "F#": "C#4 E4 A#4", "E": "B3 E4 G#4",
}  # fmt: skip
_CHORDS = "D D G D | D A D A | B B A D"
CHORDS = (
    f"{_CHORDS} | D A A A | {_CHORDS} | A D D D | A A D D | A A D B | A A F# F# | B E A A | {_CHORDS} | A D D D"
).split("|")


def broken(chord, is_rising):
    """Two eighths of a chord: low and middle, or high and middle."""
    low, middle, high = _BROKEN[chord].split()
    return f"{low if is_rising else high}:.5 {middle}:.5"


RUNNING = line(" | ".join(" ".join(broken(c, i % 2 == 0) for i, c in enumerate(bar.split())) for bar in CHORDS))
CLOSE = "{0}:.5 -:.5 {0}:.5 -:.5 {0} -:1 | {0}:4"  # two short chords, a longer one, the last


def up(notes, semitones):
    """A line moved by semitones."""
    return [type(n)(n.at, n.length, tuple(p + semitones for p in n.pitches)) for n in notes]


def theme(part, at, velocity, semitones=0, sound=0.96):
    """The theme, with its early return tied over the bar line."""
    part.play(up(THEME, semitones), at, velocity, sound=sound)
    part.strike(at + 44 + TIED.at, 1.95, TIED.pitches[0] + semitones, velocity + 8)
    part.strike(at + 49, 0.96, TIED.pitches[0] + semitones, velocity)


def breathe(part, at, low, high):
    """Expression over one statement: each phrase of four bars grows to its third bar and gives way."""
    for phrase in range(4):
        start, top = at + 16 * phrase, high if phrase != 1 else (low + high) / 2
        part.swell((start, low), (start + 9, top), (start + 14, low + (top - low) / 3), (start + 15.9, low), step=0.5)


def main() -> None:
    """Write ode_to_joy.mid beside this script."""
    flute = Part("Flute", 0, 73, pan=52, volume=88, reverb=58)
    oboe = Part("Oboe", 1, 68, pan=74, volume=78, reverb=56)
    clarinet = Part("Clarinet", 2, 71, pan=50, volume=84, reverb=56)
    bassoon = Part("Bassoon", 3, 70, pan=78, volume=92, reverb=54)
    horn = Part("Horn", 4, 60, pan=36, volume=88, reverb=66)
    trumpet = Part("Trumpet", 5, 56, pan=80, volume=90, reverb=62)
    trombone = Part("Trombone", 6, 57, pan=90, volume=78, reverb=62)
    timpani = Part("Timpani", 7, 47, pan=60, volume=100, reverb=64)
    violins = Part("Violins 1", 8, 48, pan=28, volume=112, reverb=52, loose=0.015)
    seconds = Part("Violins 2", 10, 48, pan=46, volume=94, reverb=52, loose=0.015, seed=1)
    violas = Part("Violas", 11, 41, pan=72, volume=84, reverb=52)
    cellos = Part("Cellos", 12, 42, pan=88, volume=100, reverb=50)
    basses = Part("Basses", 13, 43, pan=100, volume=100, reverb=50)

    first, second, third = 0.0, STATEMENT, 2 * STATEMENT
    close = 3 * STATEMENT
    # 1: cellos and basses, in octaves, alone
    for part, velocity, semitones in ((cellos, 72, -12), (basses, 64, -24)):
        theme(part, first, velocity, semitones, sound=0.98)
        breathe(part, first, 80, 104)
    # 2: violins with the full harmony of the strings, a bassoon against them; horn and clarinet join halfway
    theme(violins, second, 90)
    seconds.play(ALTO, second, 76, sound=0.97)
    violas.play(TENOR, second, 70, sound=0.97)
    cellos.play(BASS, second, 66, sound=0.97)
    basses.play(up(BASS, -12), second, 62, sound=0.9)
    bassoon.play(COUNTER, second, 68, sound=0.97)
    horn.play([n for n in TENOR if n.at >= 32], second, 58, sound=0.99)
    clarinet.play([n for n in ALTO if n.at >= 32], second, 72, sound=0.97)
    for part in (violins, seconds, violas, cellos, basses, bassoon, horn, clarinet):
        breathe(part, second, 84, 108)
        part.swell((second + 60, 88), (second + 63.75, 112))
    # 3: everybody
    theme(flute, third, 96, 12)
    theme(oboe, third, 98, 12)
    theme(violins, third, 116, 12)
    theme(trumpet, third, 104, 0, sound=0.85)
    seconds.play(RUNNING, third, 100, sound=0.9)
    clarinet.play(RUNNING, third, 88, sound=0.9)
    horn.play(ALTO, third, 78, sound=0.93)
    trombone.play(TENOR, third, 70, sound=0.9)
    violas.play(TENOR, third, 92, sound=0.95)
    for part, semitones, velocity in ((cellos, 0, 94), (basses, -12, 94), (bassoon, 0, 88)):
        part.play(up(BASS, semitones), third, velocity, sound=0.93)
    kettle = "D3 -:1 D3:.5 D3:.5 D3"
    dominant = "D3 -:1 A2:.5 A2:.5 A2"
    half_close = "A2:.5 A2:.5 A2:.5 A2:.5 A2:.25 A2:.25 A2:.25 A2:.25 A2"
    cadence = "A2 A2:.5 D3:.5 D3:.5 D3:.5 D3"
    eight = f"{kettle} | {dominant} | -:2 A2 D3 | {{}}"
    timpani.play(
        line(
            f"{eight.format(half_close)} | {eight.format(cadence)} | A2 -:1 D3:.5 D3:.5 D3 | A2 -:1 D3 -:1 | -:4 |"
            f"-:2 A2:.5 A2:.5 A2:.5 A2:.5 | {eight.format(cadence)}"
        ),
        third, 88, accent=14,
    )  # fmt: skip
    chords = {
        flute: "A5", oboe: "F#5", clarinet: "D5", bassoon: "D3", horn: "F#4", trumpet: "A4", trombone: "A3",
        violins: "D5+F#5", seconds: "A4+D4", violas: "F#4", cellos: "D3+A3", basses: "D2",
    }  # fmt: skip
    for part, chord in chords.items():
        part.swell((third, 104), (third + 30, 112), (third + 48, 104), (close, 122), step=1.0)
        part.play(line(CLOSE.format(chord)), close, 98, sound=1.0)
        part.swell((close + 4, 122), (close + 6, 108), (close + 8, 120))
    timpani.play(line("D3:.5 -:.5 D3:.5 -:.5 D3 -:1"), close, 100)
    for i in range(30):  # a roll under the last chord
        timpani.strike(close + 4 + i / 8, 0.12, 50, 64 + i)
    timpani.strike(close + 7.75, 0.8, 50, 108)

    tempi = [(0.0, BPM), (second - 2, BPM - 6), (second, BPM), (third - 2, BPM - 12), (third, BPM + 2)]
    tempi += [(close - 2, BPM - 10), (close, BPM - 16), (close + 2, BPM - 30), (close + 4, BPM - 52)]
    parts = [flute, oboe, clarinet, bassoon, horn, trumpet, trombone, timpani, violins, seconds, violas, cellos, basses]
    save(OUT, "Ode to Joy", parts, tempi, (4, 4))


if __name__ == "__main__":
    main()
