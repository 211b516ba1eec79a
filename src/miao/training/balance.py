"""How loud a default voice is in songs, against the program whose place it takes.

Keys are as loud as the program's over a second, at one velocity (`training.key_gains`). Notes of songs are shorter and
of many strengths: a plucked bass has most of its power in its first tenth of a second, where its program comes up
slowly, and its soft strokes are nearer to its hard ones. So a song would lose its balance by 2 to 5 dB. One gain for
all keys makes a voice as loud as its program in the mean of notes as songs have them.
"""

from dataclasses import replace

import numpy as np

from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.loudness import energy_db

SECONDS = ((0.2, 0.3), (0.4, 0.5), (1.0, 1.0))  # that notes are held, and heard; short ones ring on,
VELOCITIES = (64, 90, 110)  # how they are struck,
N_KEYS = 5  # and how many keys of those that were recorded


def louder_db(bank: Bank, voice: LearntVoice, program: int) -> float:
    """How much louder notes of a default voice are than those of a program, dB, in the mean of lengths, strengths and
    keys; ``bank`` is without default voices."""
    player, number = bank.with_voices([voice]), len(bank.table.kind)
    keys = np.linspace(int(voice.about["lowest"]), int(voice.about["highest"]), N_KEYS + 2)[1:-1].round()
    found = []
    for held, heard in SECONDS:
        for key in keys.astype(int).tolist():
            for velocity in VELOCITIES:
                score = one_note_score(program, key, velocity, held)
                ours, theirs = play(player, score, voice=number), play(bank, score, voice=program)
                found.append(energy_db(ours, heard) - energy_db(theirs, heard))
    return float(np.mean(found))


def in_balance(bank: Bank, voice: LearntVoice, program: int) -> LearntVoice:
    """The voice as loud as the program in songs."""
    trim_db = voice.table.trim_db - np.float32(louder_db(bank, voice, program))
    return replace(voice, table=replace(voice.table, trim_db=trim_db))
