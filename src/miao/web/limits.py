"""What a server lets its clients do, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; each is there so that no client can take it from the others."""

    midi_bytes: int = 16_000_000  # of an uploaded MIDI file,
    sound_bytes: int = 200_000_000  # of a sound or a packed folder of notes
    notes: int = 2_000_000  # of a song
    seconds: float = 3 * 3600.0  # of a song, at the tempo it is played at
    sounds: int = 256  # of one client,
    client_bytes: int = 400_000_000  # all of them together
    sound_seconds: float = 1200.0  # of a recording that is learnt from or matched
    sessions: int = 32  # pages that are open
    keyboards: int = 8  # of these, that play live
    songs: int = 8  # of one client
    idle_songs: int = 64  # that came without a page, and are forgotten after
    idle_seconds: float = 600.0
    running_jobs: int = 2
    waiting_jobs: int = 16
    jobs: int = 4  # of one client at a time
    job_seconds: float = 1800.0
    polyphony: int = 1024  # most notes at one time of a song, as the command has it,
    keyboard_polyphony: int = 128  # and of a keyboard
    message_bytes: int = 1 << 18  # of what comes through a socket
    keeps_voices: bool = True  # learnt voices go to the user's own folder: only where the only client is the user
