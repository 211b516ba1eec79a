"""The names that General MIDI gives to programs and drum keys.

Programs are numbered from 0, as in the file (printed tables count from 1); drum keys are MIDI note numbers.
Source: General MIDI System Level 1 and 2 (MIDI Association, RP-003 and RP-024).
"""

GM_PROGRAMS: tuple[str, ...] = (
    # piano, chromatic percussion
    "Acoustic Grand Piano", "Bright Acoustic Piano", "Electric Grand Piano", "Honky-tonk Piano",
    "Electric Piano 1", "Electric Piano 2", "Harpsichord", "Clavinet",
    "Celesta", "Glockenspiel", "Music Box", "Vibraphone",
    "Marimba", "Xylophone", "Tubular Bells", "Dulcimer",
    # organ, guitar
    "Drawbar Organ", "Percussive Organ", "Rock Organ", "Church Organ",
    "Reed Organ", "Accordion", "Harmonica", "Bandoneon",
    "Nylon Guitar", "Steel Guitar", "Jazz Guitar", "Clean Guitar",
    "Muted Guitar", "Overdriven Guitar", "Distortion Guitar", "Guitar Harmonics",
    # bass, strings
    "Acoustic Bass", "Fingered Bass", "Picked Bass", "Fretless Bass",
    "Slap Bass 1", "Slap Bass 2", "Synth Bass 1", "Synth Bass 2",
    "Violin", "Viola", "Cello", "Contrabass",
    "Tremolo Strings", "Pizzicato Strings", "Harp", "Timpani",
    # ensemble, brass
    "String Ensemble 1", "String Ensemble 2", "Synth Strings 1", "Synth Strings 2",
    "Choir Aahs", "Voice Oohs", "Synth Voice", "Orchestra Hit",
    "Trumpet", "Trombone", "Tuba", "Muted Trumpet",
    "French Horn", "Brass Section", "Synth Brass 1", "Synth Brass 2",
    # reed, pipe
    "Soprano Sax", "Alto Sax", "Tenor Sax", "Baritone Sax",
    "Oboe", "English Horn", "Bassoon", "Clarinet",
    "Piccolo", "Flute", "Recorder", "Pan Flute",
    "Bottle", "Shakuhachi", "Whistle", "Ocarina",
    # synth lead, synth pad
    "Square Lead", "Sawtooth Lead", "Calliope Lead", "Chiff Lead",
    "Charang Lead", "Voice Lead", "Fifths Lead", "Bass and Lead",
    "New Age Pad", "Warm Pad", "Polysynth Pad", "Choir Pad",
    "Bowed Pad", "Metallic Pad", "Halo Pad", "Sweep Pad",
    # synth effects, ethnic
    "Rain", "Soundtrack", "Crystal", "Atmosphere",
    "Brightness", "Goblins", "Echoes", "Sci-fi",
    "Sitar", "Banjo", "Shamisen", "Koto",
    "Kalimba", "Bagpipe", "Fiddle", "Shanai",
    # percussive, sound effects
    "Tinkle Bell", "Agogo", "Steel Drums", "Woodblock",
    "Taiko Drum", "Melodic Tom", "Synth Drum", "Reverse Cymbal",
    "Fret Noise", "Breath Noise", "Seashore", "Bird Tweet",
    "Telephone Ring", "Helicopter", "Applause", "Gunshot",
)  # fmt: skip

GM_DRUMS: dict[int, str] = dict(enumerate((
    # 27-34 are General MIDI 2
    "High Q", "Slap", "Scratch Push", "Scratch Pull", "Sticks", "Square Click", "Metronome Click", "Metronome Bell",
    # 35-81 are General MIDI 1
    "Acoustic Bass Drum", "Bass Drum 1", "Side Stick", "Acoustic Snare", "Hand Clap", "Electric Snare",
    "Low Floor Tom", "Closed Hi-hat", "High Floor Tom", "Pedal Hi-hat", "Low Tom", "Open Hi-hat",
    "Low-mid Tom", "Hi-mid Tom", "Crash Cymbal 1", "High Tom", "Ride Cymbal 1", "Chinese Cymbal",
    "Ride Bell", "Tambourine", "Splash Cymbal", "Cowbell", "Crash Cymbal 2", "Vibraslap",
    "Ride Cymbal 2", "High Bongo", "Low Bongo", "Mute High Conga", "Open High Conga", "Low Conga",
    "High Timbale", "Low Timbale", "High Agogo", "Low Agogo", "Cabasa", "Maracas",
    "Short Whistle", "Long Whistle", "Short Guiro", "Long Guiro", "Claves", "High Wood Block",
    "Low Wood Block", "Mute Cuica", "Open Cuica", "Mute Triangle", "Open Triangle",
    # 82-87 are General MIDI 2
    "Shaker", "Jingle Bell", "Belltree", "Castanets", "Mute Surdo", "Open Surdo",
), start=27))  # fmt: skip

GM_DRUM_KITS: dict[int, str] = {
    0: "Standard Kit", 8: "Room Kit", 16: "Power Kit", 24: "Electronic Kit", 25: "Analog Kit",
    32: "Jazz Kit", 40: "Brush Kit", 48: "Orchestra Kit", 56: "Sound Effects Kit",
    # GS and XG have these, too
    1: "Standard Kit 2", 26: "Dance Kit", 127: "MT-32 Kit",
}  # fmt: skip

# drum keys that exclude each other (GM2 2.8.1) -> their group, by kit; kits without an entry have the standard kit's
_GROUPS = ((42, 44, 46), (29, 30), (71, 72), (73, 74), (78, 79), (80, 81), (86, 87))
CHOKES = {key: n for n, group in enumerate(_GROUPS) for key in group}
KIT_CHOKES = {
    48: {key: n for n, group in enumerate(((27, 28, 29), *_GROUPS[2:])) for key in group},  # hi-hats lie lower
    56: {41: 0, 42: 0},  # sound effects: the scratches
}


def program_name(program: int, is_drum: bool = False) -> str:
    """What General MIDI calls a program (0 to 127), or the drum kit of that number."""
    if is_drum:
        return GM_DRUM_KITS.get(program, f"Drum Kit {program + 1}")
    return GM_PROGRAMS[program]
