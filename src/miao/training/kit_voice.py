"""The standard kit of a bank as a voice of its own, which a learnt kit sets out from."""

import numpy as np

from miao.bank.bank import Bank
from miao.bank.key_levels import KeyLevels
from miao.bank.learnt_voice import LearntVoice
from miao.bank.own_kit import OwnKit
from miao.bank.voices import (
    DRUM_KEYS,
    N_PITCHES,
    PITCH_NODES,
    VoiceEmbeddings,
    VoiceTable,
    drum_voice,
)

STANDARD_KIT = "the standard kit"


def kit_copy(bank: Bank, about: dict[str, str]) -> LearntVoice:
    """A voice whose keys are the drums of General MIDI as a bank plays them. The nets are told of each key by `kit`;
    the embeddings that programs have are there for the form only."""
    assert bank.embeddings is not None
    table, told = bank.table, bank.embeddings
    voices = np.array([drum_voice(key) for key in range(N_PITCHES)])  # by pitch; beyond the kit its outermost keys
    pitches = np.arange(N_PITCHES)
    trim = table.trim_db[voices] if table.trim_db.ndim == 1 else table.trim_db[voices, pitches]
    own = VoiceTable(
        kind=table.kind[voices[:1]], tune_cents=table.tune_cents[voices, pitches][None],
        stretch=table.stretch[voices, pitches][None], mode_row=np.zeros(1, np.int16),
        modes=table.modes[table.mode_row[voices], pitches][None], balance=table.balance[voices, pitches][None],
        is_wide=table.is_wide[voices, pitches][None], trim_db=trim[None].astype(np.float32),
    )  # fmt: skip
    drums = voices[DRUM_KEYS.start : DRUM_KEYS.stop]
    each = [told.at(kind, drums, np.array(DRUM_KEYS)) for kind in range(3)]
    kit = OwnKit(each[0][0].astype(np.float16), np.stack([profile for _, profile in each]).astype(np.float16))
    form = VoiceEmbeddings(np.zeros((1, PITCH_NODES, told.embeddings.shape[2]), np.float16),
                           np.zeros((3, 1, PITCH_NODES, kit.profiles.shape[2]), np.float16))  # fmt: skip
    return LearntVoice(own, form, None, about, key_levels=_key_levels(bank, drums), kit=kit)


def _key_levels(bank: Bank, drums: np.ndarray) -> KeyLevels | None:
    """The shifts of single keys, each drum's own."""
    every = bank.additions.key_levels
    known = [None if every is None else every.alone(int(voice)) for voice in drums]
    if not any(known):
        return None
    shape = next(keys.levels.shape[1:] for keys in known if keys is not None)
    levels = [np.zeros(shape, np.int8) if keys is None else
              keys.levels[min(max(key - int(keys.lowest[0]), 0), len(keys.levels) - 1)]
              for key, keys in zip(DRUM_KEYS, known, strict=True)]  # fmt: skip
    return KeyLevels(np.zeros(1, np.int32), np.array([DRUM_KEYS[0]], np.uint8), np.array([len(drums)], np.uint8),
                     np.stack(levels))  # fmt: skip
