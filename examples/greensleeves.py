"""Greensleeves (England, 16th century), as a slow soul ballad in 6/8 for a band of eight.

Alto saxophone has the first verse, trumpet and saxophone the refrain; then an overdriven guitar, then everybody.
"""

from pathlib import Path

from arranging import VOLUME, Part, line, pitch, save

OUT = Path(__file__).with_suffix(".mid")
BPM = 100  # quarter notes; two dotted quarters fill a bar
BAR = 3.0  # quarter notes
INTRO, VERSE_1, REFRAIN_1, VERSE_2, REFRAIN_2, CODA = (n * BAR for n in (0, 4, 12, 20, 28, 36))


def eighths(text):
    """A line counted in eighths, six to the bar."""
    return line(text, unit=0.5, bar=6)


_TAIL = "D5:2 B4 G4:1.5 A4:.5 B4"
VERSE = eighths(
    f"C5:2 D5 E5:1.5 F#5:.5 E5 | {_TAIL} | C5:2 A4 A4:1.5 G#4:.5 A4 | B4:2 G#4 E4:2 A4 |"
    f"C5:2 D5 E5:1.5 F#5:.5 E5 | {_TAIL} | C5:1.5 B4:.5 A4 G#4:1.5 F#4:.5 G#4 | A4:5 -:1"
)
REFRAIN = eighths(
    f"G5:3 G5:1.5 F#5:.5 E5 | {_TAIL} | C5:2 A4 A4:1.5 G#4:.5 A4 | B4:2 G#4 E4:3 |"
    f"G5:3 G5:1.5 F#5:.5 E5 | {_TAIL} | C5:1.5 B4:.5 A4 G#4:1.5 F#4:.5 G#4 | A4:5 -:1"
)
_TAIL_BELOW = "B4:2 G4 E4:1.5 F#4:.5 G4"
REFRAIN_BELOW = eighths(
    f"E5:3 E5:1.5 D5:.5 C5 | {_TAIL_BELOW} | A4:2 E4 F4:1.5 E4:.5 F4 | G#4:2 E4 B3:3 |"
    f"E5:3 E5:1.5 D5:.5 C5 | {_TAIL_BELOW} | A4:1.5 G4:.5 E4 E4:1.5 D4:.5 E4 | E4:3 C4:2 -:1"
)
PICKUP = eighths("-:5 A4")

# two chords a bar
INTRO_CHORDS = "Am Am G G Am Am E E"
VERSE_CHORDS = "Am Am G Em Am F E E Am Am G Em Am E Am Am"
REFRAIN_CHORDS = "C C G Em Am F E E C C G Em Am E Am Am"
FORM = [
    (INTRO, INTRO_CHORDS), (VERSE_1, VERSE_CHORDS), (REFRAIN_1, REFRAIN_CHORDS), (VERSE_2, VERSE_CHORDS),
    (REFRAIN_2, REFRAIN_CHORDS),
]  # fmt: skip
PICKED = {  # strings of the clean guitar, low to high
    "Am": "A2 E3 A3 C4 E4", "G": "G2 D3 G3 B3 D4", "Em": "E2 B2 G3 B3 E4", "C": "C3 G3 C4 E4 G4", "F": "F2 C3 A3 C4 F4",
    "E": "E2 B2 G#3 B3 E4",
}  # fmt: skip
ORGAN = {"Am": "A3 C4 E4", "G": "G3 B3 D4", "Em": "G3 B3 E4", "C": "G3 C4 E4", "F": "A3 C4 F4", "E": "G#3 B3 E4"}
POWER = {"Am": "A2 E3 A3", "G": "G2 D3 G3", "Em": "E2 B2 E3", "C": "C3 G3 C4", "F": "F2 C3 F3", "E": "E2 B2 E3"}
ROOT = {"Am": "A1", "G": "G1", "Em": "E1", "C": "C2", "F": "F1", "E": "E1"}

KICK, STICK, SNARE, CLOSED, PEDAL, OPEN, RIDE, CRASH, BELL = 36, 37, 38, 42, 44, 46, 51, 49, 53
TOMS = (50, 48, 45, 43, 41)


def halves(form):
    """Each half bar of the form: (time, chord, the chord after it)."""
    found = [(start + i * BAR / 2, chord) for start, text in form for i, chord in enumerate(text.split())]
    return [(at, chord, after) for (at, chord), (_, after) in zip(found, [*found[1:], (0, "Am")], strict=True)]


def play_bass(bass):
    """Root on one, fifth or octave on four, and a step towards the next chord."""
    for at, chord, after in halves(FORM):
        if at < INTRO + 2 * BAR:
            continue
        root, goal = pitch(ROOT[chord]), pitch(ROOT[after])
        loud = 92 if at >= REFRAIN_1 else 80
        second_half = (at / BAR) % 1 > 0.4
        first = root + 7 if second_half and after == chord and chord != "E" else root
        bass.strike(at + bass.late(), 0.92, first, loud)
        if goal == root:
            bass.strike(at + 1.0, 0.42, root + (7 if not second_half else 12), loud - 14)
        else:
            bass.strike(at + 1.0, 0.45, goal + (-1 if goal > root else 2), loud - 10)


def play_clean_guitar(guitar):
    """Broken chords in eighths, strings ringing on to the next chord."""
    for at, chord, _ in halves(FORM):
        strings = [pitch(name) for name in PICKED[chord].split()]
        order = (0, 2, 3) if (at / BAR) % 1 < 0.4 else (1, 4, 3)
        if chord in ("F", "Em") and order[0] == 1:
            order = (0, 3, 4)
        quiet = 8 if VERSE_2 <= at < REFRAIN_2 else 0
        for i, string in enumerate(order):
            guitar.strike(at + 0.5 * i + guitar.late(), 1.5 - 0.5 * i - 0.03, strings[string], 76 - 8 * (i > 0) - quiet)


def play_organ(organ):
    """Held chords, tied where the harmony stays, swelling in the refrains."""
    held, since = None, 0.0
    for at, chord, _ in [*halves(FORM), (CODA, "end", "")]:
        if at < VERSE_1:
            continue
        if chord != held:
            for name in ORGAN.get(held, "").split():
                organ.strike(since, at - since - 0.03, pitch(name), 72)
            held, since = chord, at
    organ.swell((VERSE_1, 52), (REFRAIN_1 - BAR, 72), (REFRAIN_1, 104), (REFRAIN_1 + 6 * BAR, 88), (VERSE_2, 66))
    organ.swell((VERSE_2 + 6 * BAR, 84), (REFRAIN_2, 112), (CODA - BAR, 100), (CODA, 116))


def play_drums(drums):
    """Eighths on hi-hat or ride, side stick in the first verse and snare after it, a fill into each new part."""
    for bar in range(2, 36):
        at, part = bar * BAR, bar * BAR
        full = part >= REFRAIN_1
        is_refrain = REFRAIN_1 <= part < VERSE_2 or part >= REFRAIN_2
        fill = (bar + 1) * BAR in (REFRAIN_1, VERSE_2, REFRAIN_2)
        for i in range(6):
            if fill and i >= 3:
                break
            ghost = -22 if i % 3 else 0
            drums.strike(at + 0.5 * i, 0.2, RIDE if is_refrain else CLOSED, (84 if full else 70) + ghost)
        if is_refrain:
            drums.strike(at + 1.5, 0.2, PEDAL, 62)
        drums.strike(at, 0.3, KICK, 104 if full else 92)
        if bar % 2:
            drums.strike(at + 1.0, 0.3, KICK, 82)
        if full or bar % 4 == 3:
            drums.strike(at + 2.5, 0.3, KICK, 88)
        if not fill:
            drums.strike(at + 1.5, 0.3, SNARE if full else STICK, 106 if full else 92)
            if full and bar % 2:
                drums.strike(at + 2.25, 0.2, SNARE, 40)
        else:
            for i, drum in enumerate((SNARE, SNARE, TOMS[0], TOMS[1], TOMS[2], TOMS[3])):
                drums.strike(at + 1.5 + i * 0.25, 0.25, drum, 86 + 5 * i)
        if at in (REFRAIN_1, REFRAIN_1 + 4 * BAR, VERSE_2, REFRAIN_2, REFRAIN_2 + 4 * BAR):
            drums.strike(at, 1.0, CRASH, 100)
        if not is_refrain and bar % 4 == 3 and not fill:
            drums.strike(at + 2.5, 0.4, OPEN, 74)


def scoop(part, at, semitones=-1.0):
    """Come up to a note from below."""
    for i in range(7):
        part.bend(at - 0.02 + 0.035 * i, semitones * (1 - i / 6))


def sing(part, notes, at, velocity, sound=0.97):
    """A melody as a player shapes it: long notes are swelled and given vibrato, some are reached from below."""
    part.play(notes, at, velocity, sound=sound)
    for note in notes:
        if note.length >= 1.0:
            start, end = at + note.at, at + note.at + note.length
            part.vibrato(start + 0.4 * note.length, end - 0.06, 0.16)
            part.swell((start, 96), (start + 0.35 * note.length, 112), (end - 0.05, 92))


class Player(Part):
    """A part that leans on both beats of the bar and may lie a little behind them."""

    bar: float = 1.5

    def late(self) -> float:
        """A few hundredths of a quarter note, never early."""
        return self._random.uniform(0, 0.018)


def main() -> None:
    """Write greensleeves.mid beside this script."""
    drums = Player("Drums", 9, 0, volume=104, reverb=34, loose=0.004)
    bass = Player("Bass", 1, 33, volume=88, reverb=16)
    clean = Player("Clean Guitar", 2, 27, pan=30, volume=72, reverb=44)
    drive = Player("Overdriven Guitar", 3, 29, pan=92, volume=96, reverb=44)
    organ = Player("Organ", 4, 16, pan=82, volume=94, reverb=40)
    sax = Player("Alto Sax", 5, 65, pan=54, volume=120, reverb=52)
    trumpet = Player("Trumpet", 6, 56, pan=74, volume=114, reverb=56)
    piano = Player("Electric Piano", 7, 4, pan=44, volume=74, reverb=40)

    play_bass(bass)
    play_clean_guitar(clean)
    play_organ(organ)
    play_drums(drums)
    # verse 1: saxophone, electric piano answering on the off-beats
    sax.play(PICKUP, VERSE_1 - BAR, 80)
    sing(sax, VERSE, VERSE_1, 88)
    for at, chord, _ in halves([(VERSE_1, VERSE_CHORDS), (VERSE_2, VERSE_CHORDS)]):
        for name in ORGAN[chord].split():
            piano.strike(at + 0.5 + piano.late(), 0.4, pitch(name), 62)
            piano.strike(at + 1.0 + piano.late(), 0.3, pitch(name), 54)
    trumpet.play(eighths("-:3 A4 C5 E5"), REFRAIN_1 - BAR, 84)
    # refrain 1: trumpet, saxophone below, guitar chords held through
    sing(trumpet, REFRAIN, REFRAIN_1, 96)
    sing(sax, REFRAIN_BELOW, REFRAIN_1, 84)
    for start, chords in ((REFRAIN_1, REFRAIN_CHORDS), (REFRAIN_2, REFRAIN_CHORDS)):
        for at, chord, _ in halves([(start, chords)]):
            for name in POWER[chord].split():
                drive.strike(at, 1.42, pitch(name), 74)
    # verse 2: the guitar sings
    drive.play(PICKUP, VERSE_2 - BAR, 88)
    drive.control(VOLUME, VERSE_2 - 0.6, 122)
    sing(drive, VERSE, VERSE_2, 98, sound=1.0)
    for bar, eighth in ((0, 3), (1, 0), (4, 3), (5, 0), (7, 0)):
        scoop(drive, VERSE_2 + bar * BAR + 0.5 * eighth, -2.0 if bar == 4 else -1.0)
    drive.control(VOLUME, REFRAIN_2 - 0.1, 96)
    trumpet.play(eighths("-:3 E5:1 D5:1 B4:1"), VERSE_2 + 3 * BAR, 70)
    sax.play(eighths("-:2 E4:1 A4 C5 E5"), REFRAIN_2 - BAR, 84)
    trumpet.play(eighths("-:3 A4 C5 E5"), REFRAIN_2 - BAR, 88)
    # refrain 2: everybody
    sing(trumpet, REFRAIN, REFRAIN_2, 104)
    sing(sax, REFRAIN_BELOW, REFRAIN_2, 96)
    for at, chord, _ in halves([(REFRAIN_2, REFRAIN_CHORDS)]):
        for name in ORGAN[chord].split():
            piano.strike(at + piano.late(), 0.9, pitch(name), 68)
            piano.strike(at + 1.0 + piano.late(), 0.4, pitch(name) + 12 * (name == ORGAN[chord].split()[0]), 58)
    # the end is in major, as old minor tunes like to end
    for part, chord, velocity in (
        (bass, "A1", 94), (clean, "A2 E3 A3 C#4 E4", 74), (drive, "A2 E3 A3", 78), (organ, "A3 C#4 E4 A4", 76),
        (piano, "A3 C#4 E4 B4", 66), (sax, "C#5", 86), (trumpet, "E5", 84),
    ):  # fmt: skip
        for i, name in enumerate(chord.split()):
            part.strike(CODA + 0.05 * i * (part in (clean, piano)), 5.6 - 0.05 * i, pitch(name), velocity)
        part.swell((CODA, 112), (CODA + 2.5, 96), (CODA + 5.5, 40))
    trumpet.vibrato(CODA + 1.5, CODA + 5.2, 0.14)
    sax.vibrato(CODA + 1.2, CODA + 5.2, 0.16)
    drums.strike(CODA, 1.0, CRASH, 92)
    drums.strike(CODA, 0.5, KICK, 98)
    for i in range(20):
        drums.strike(CODA + 2 + i / 8, 0.12, RIDE, 30 + 2.4 * i)
    drums.strike(CODA + 4.6, 1.0, BELL, 72)

    last = REFRAIN_2 + 6 * BAR
    tempi = [(0.0, BPM), (last, BPM - 4), (last + 0.5 * BAR, BPM - 12), (last + BAR, BPM - 8)]
    tempi += [(CODA - 0.5 * BAR, BPM - 20), (CODA, BPM - 12)]
    save(OUT, "Greensleeves", [drums, bass, clean, drive, organ, piano, sax, trumpet], tempi, (6, 8))


if __name__ == "__main__":
    main()
