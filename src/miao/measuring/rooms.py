"""A room learnt from a sound that was made in it: a clap, a burst balloon, or a sweep that is taken back to a clap.

What is measured (reverberation time and energy by octave, when the room's energy begins and how it gathers, how unlike
the ears are) is turned into the numbers of a `DrawnRoom` by asking what rooms with such numbers would measure: what the
measurement itself does to a number then cancels. The direct sound (2.5 ms) stands for what was sent; so a clap's own
colour does not count as the room's, as far as it is over by then.
"""

from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import Doubles, Flags, Reals
from miao.errors import MiaoError
from miao.sound.audio import Audio
from miao.sound.decay import DIRECT_SECONDS, OctaveDecay, measure_octave, octave_band, onset_of
from miao.sound.room import BAND_HZ, EARLY_SECONDS, DrawnRoom

USUAL_DB = 20 * np.log10(0.5 * 40 / 127)  # of a room beside the sound, at General MIDI's usual send
DRY_DB = -30.0  # a room this much softer than the direct sound is none
_MIDDLE = slice(3, 5)  # octaves of 500 and 1000 Hz: what levels are relative to
_EARLY_SECONDS = 0.06
_BEGUN = 0.01
_BUILD_UPS = np.geomspace(0.003, 0.3, 40)
_ROUNDS = 12
_LEAST_T60 = 0.05
_NEXT_SECONDS, _NEXT_DB = 0.15, 12.0  # another clap: later than this and risen by so much
_LONGEST_SECONDS = 12.0


@dataclass(frozen=True)
class LearntRoom:
    """A room and what it was learnt from."""

    room: DrawnRoom
    octaves: tuple[OctaveDecay, ...]  # as measured: 63 Hz to 16 kHz
    level_db: float  # of the room beside the direct sound, 200 to 2000 Hz
    levels_db: tuple[float, ...]  # the same by octave
    remarks: tuple[str, ...]  # what could not be measured, and what stands there instead


def room_from_clap(audio: Audio, where: str = "the sound") -> LearntRoom:
    """The room in which a clap (or any short, loud sound) was recorded; of several claps the loudest counts.

    Raises: MiaoError if the sound is silent, holds no decay, or no room is heard in it.
    """
    samples = audio.samples[:2].astype(np.float64)
    rate = audio.sample_rate
    samples = samples - samples.mean(axis=1, keepdims=True)
    remarks = []
    if np.mean(np.abs(audio.samples) >= 0.999) > 2e-5:
        remarks.append("the sound is clipped; the room is then heard louder than it is")
    response = _one_clap(samples, rate, where)
    direct_samples = round((0.001 + DIRECT_SECONDS) * rate)
    room_part = response.copy()
    room_part[:, :direct_samples] = 0
    octaves = [measure_octave(room_part[:, direct_samples:], rate, float(hz)) for hz in BAND_HZ]
    known = np.array([np.isfinite(o.t60_seconds) for o in octaves])
    if not known.any():
        raise MiaoError(
            f"{where}: no decay can be followed in any octave; record a clap in a quiet moment, with two seconds after"
        )
    direct = _direct_db(response[:, :direct_samples], rate)
    if not known[_MIDDLE].all():
        raise MiaoError(f"{where}: no decay can be followed around 500 and 1000 Hz; record louder or in more quiet")
    levels = np.array([o.energy_db for o in octaves]) - direct
    level_db = float(np.mean(levels[_MIDDLE]))
    t60 = np.array([o.t60_seconds for o in octaves])
    if level_db < DRY_DB or t60[4] < _LEAST_T60:
        raise MiaoError(f"{where}: dry: what comes after the sound is {-level_db:.0f} dB below it; no room is heard")
    remarks += said_of(known, level_db)
    room = drawn_like(t60, levels, known, _gathering(room_part, rate), _likeness(room_part, rate), level_db)
    return LearntRoom(room, tuple(octaves), level_db, tuple(levels.tolist()), tuple(remarks))


def said_of(known: Flags, level_db: float) -> tuple[str, ...]:
    """What is to be said of a room of which some octaves are known and which is so loud beside the sound."""
    remarks = []
    if not known.all():
        missing = ", ".join(f"{hz:g}" for hz in BAND_HZ[~known])
        remarks.append(f"nothing is known of {missing} Hz; there it is like the usual room")
    if level_db > 0:
        remarks.append(f"the room is {level_db:.0f} dB louder than the sound itself, as the microphone was far away; "
                       "--wet 0.3 puts it further back")  # fmt: skip
    return tuple(remarks)


def response_of_sweep(recorded: Audio, played: Audio) -> Audio:
    """The impulse response between a sweep (or any broad sound) as it was played and as it was recorded.

    Raises: MiaoError if the two have different rates or one is silent.
    """
    if recorded.sample_rate != played.sample_rate:
        raise MiaoError(f"the sweep is at {played.sample_rate} Hz, its recording at {recorded.sample_rate} Hz")
    if not played.samples.any() or not recorded.samples.any():
        raise MiaoError("the sweep or its recording is silent")
    n = 1 << int(np.ceil(np.log2(recorded.samples.shape[1] + played.samples.shape[1])))
    sent = np.fft.rfft(played.samples.mean(axis=0), n)
    power = np.abs(sent) ** 2
    inverse = sent.conj() / (power + 1e-5 * power.max())  # where nothing was sent nothing is known
    response = np.fft.irfft(np.fft.rfft(recorded.samples[:2], n) * inverse, n)
    peak = int(np.abs(response).max(axis=0).argmax())
    before = min(int(0.05 * recorded.sample_rate), n // 4)
    response = np.roll(response, before - peak, axis=1)[:, : max(recorded.samples.shape[1], 4 * before)]
    return Audio(response.astype(np.float32), recorded.sample_rate)


def room_of(t60: Doubles, levels_db: Doubles, known: Flags, early_db: Doubles | None = None) -> DrawnRoom:
    """A room of which reverberation time and energy beside the sound are known in some octaves, [9] each, and how far
    its beginning lies above its tail, and not when it begins: it then answers after 10 ms and has gathered within 20
    more. Energy is that of the tail's line alone."""
    room = drawn_like(t60, levels_db, known, None, 0.0, float(np.mean(levels_db[_MIDDLE])))
    room = replace(room, predelay_seconds=0.01, build_up_seconds=0.02)
    if early_db is None:
        return room
    early = np.where(known, early_db, 0.0)
    times = np.array(room.decays)[2:6] * room.t60_seconds
    first = 1 - 10 ** (-6 * np.mean(EARLY_SECONDS) / times)  # share of the energy that comes so soon
    more = 10 * np.log10(np.mean(1 + first * (10 ** (early[2:6] / 10) - 1)))  # as a room's gain is that of all of it
    return replace(room, early_db=tuple(early.tolist()), gain_db=room.gain_db + float(more))


# measuring


def _one_clap(samples: Reals, rate: int, where: str) -> Reals:
    """From the loudest onset to the next, or to the end."""
    onset = onset_of(samples, rate, where)
    response = samples[:, onset : onset + int(_LONGEST_SECONDS * rate)]
    hop = max(rate // 200, 1)
    frames = np.square(response[:, : response.shape[1] // hop * hop]).sum(axis=0).reshape(-1, hop).mean(axis=1)
    level = 10 * np.log10(frames + 1e-14)
    lowest = np.minimum.accumulate(np.convolve(np.pad(level, 3, mode="edge"), np.ones(7) / 7, "valid"))
    first = int(_NEXT_SECONDS / 0.005)
    later = np.flatnonzero((level > lowest + _NEXT_DB) & (level > level.max() - 30))
    later = later[later > first]
    if len(later):
        response = response[:, : max(int(later[0]) - 2, 1) * hop]
    if response.shape[1] < 0.1 * rate:
        raise MiaoError(f"{where}: ends {1000 * response.shape[1] / rate:.0f} ms after its loudest moment")
    return response


def _direct_db(direct: Reals, rate: int) -> Doubles:
    """Energy of the direct sound by octave, in the bands of `octave_band` but over all time, dB."""
    padded = np.pad(direct, ((0, 0), (rate // 8, rate // 8)))
    return np.array([10 * np.log10(np.square(octave_band(padded, rate, float(hz))).sum() / rate + 1e-30)
                     if hz * 1.25 <= rate / 2 else np.nan for hz in BAND_HZ])  # fmt: skip


def _envelope(room_part: Reals, rate: int) -> Doubles:
    """Power over 1 ms, from 500 Hz on."""
    n = room_part.shape[1]
    hz = np.fft.rfftfreq(n, 1 / rate)
    high = np.fft.irfft(np.fft.rfft(room_part) * (hz > 500), n)
    hop = max(rate // 1000, 1)
    envelope: Doubles = np.square(high[:, : n // hop * hop]).sum(axis=0).reshape(-1, hop).mean(axis=1)
    return envelope


def _gathering(room_part: Reals, rate: int) -> tuple[float, float]:
    """When 1 % of the room's energy (from 500 Hz on) has come, in seconds from the direct sound, and the share of it
    that has come within 60 ms."""
    envelope = _envelope(room_part, rate)
    quiet = float(envelope[int(0.9 * len(envelope)) :].mean())
    last = np.flatnonzero(envelope > 3 * quiet)
    above = np.maximum(envelope[: int(last[-1]) + 1 if len(last) else None] - quiet, 0)
    gathered = np.cumsum(above) / max(above.sum(), 1e-30)
    begun = float(np.argmax(gathered > _BEGUN)) / 1000 - 0.001
    return begun, float(gathered[min(int(1000 * (_EARLY_SECONDS + 0.001)), len(gathered) - 1)])


def _likeness(room_part: Reals, rate: int) -> float:
    """Correlation of the ears after 50 ms, 250 to 4000 Hz; 0 where there is one ear only."""
    if len(room_part) < 2:
        return 0.0
    n = room_part.shape[1]
    hz = np.fft.rfftfreq(n, 1 / rate)
    band = np.fft.irfft(np.fft.rfft(room_part) * ((hz > 250) & (hz < 4000)), n)[:, rate // 20 :]
    power = np.sqrt(np.square(band).sum(axis=1)).prod()
    return float(abs((band[0] * band[1]).sum()) / max(power, 1e-30))


# the room of which a drawing gives these numbers


def drawn_like(t60: Doubles, levels: Doubles, known: Flags, gathering: tuple[float, float] | None, likeness: float,
               level_db: float) -> DrawnRoom:  # fmt: skip
    """The room that would measure like this; octaves not known are like the usual room's, and without ``gathering``
    (see `_gathering`) it begins and builds up as that does."""
    usual = DrawnRoom()
    target = levels - levels[_MIDDLE].mean()
    decays = _filled(t60 / t60[4], np.array(usual.decays), known)
    colours = _filled(target - 10 * np.log10(decays), np.array(usual.levels_db, float), known)
    room = DrawnRoom(
        float(t60[4]), tuple(decays), tuple(colours), width=float(np.sqrt(max(1 - likeness**2, 0))), reflections=0.0,
        gain_db=float(np.clip(level_db - USUAL_DB, -60, 40)),
    )  # fmt: skip
    if gathering is not None:
        room = _built_up(room, *gathering)
    for _ in range(_ROUNDS):
        heard_t60, heard = _expected(room)
        times = np.array(room.decays) * room.t60_seconds
        times = np.where(known, times * np.clip(t60 / heard_t60, 0.6, 1.6), times)
        off = target - (heard - heard[_MIDDLE].mean())
        colours = np.array(room.levels_db) + np.where(known, np.clip(off, -6, 6), 0)
        times = np.where(known, np.clip(times, 0.5 * t60, 2 * t60), times)  # a loud neighbour may hide an octave
        decays = np.clip(times / times[4], 0.03, 9)
        room = replace(room, t60_seconds=float(times[4]), decays=tuple(decays.tolist()),
                       levels_db=tuple(np.clip(colours - colours[_MIDDLE].mean(), -59, 59).tolist()))  # fmt: skip
    return room


def _expected(room: DrawnRoom) -> tuple[Doubles, Doubles]:
    """T60 and level by octave (dB, of a sound that is even over frequency) that a drawn room has in the mean of all
    drawings, in the bands of `octave_band`: what is drawn is noise, of which this is the power."""
    seconds = np.linspace(0, 1.3 * room.t60_seconds * max(room.decays), 400)
    rise = np.sin(np.pi / 2 * np.clip(seconds / room.build_up_seconds, 0, 1)) ** 2
    envelopes = np.array([10 ** (level / 20 - 3 * seconds / (decay * room.t60_seconds))
                          for decay, level in zip(room.decays, room.levels_db, strict=True)])  # fmt: skip
    times, levels = np.zeros(len(BAND_HZ)), np.zeros(len(BAND_HZ))
    near = np.linspace(-1, 1, 41)  # octaves from the band's middle
    for band in range(len(BAND_HZ)):
        flanks = np.cos(np.pi / 2 * np.minimum(np.abs(near[:, None] + band - np.arange(len(BAND_HZ))), 1))
        weights = np.exp(-16 * near**2) * 2.0**near  # per octave, not per hertz
        power = (weights / weights.sum()) @ np.square(flanks @ envelopes) * rise
        to_come = np.cumsum(power[::-1])[::-1]
        level = 10 * np.log10(to_come / to_come[0] + 1e-12)
        inside = (level <= -5) & (level >= -35)
        times[band] = -60 / np.polyfit(seconds[inside], level[inside], 1)[0]
        levels[band] = 10 * np.log10(to_come[0] * seconds[1])
    return times, levels


def _built_up(room: DrawnRoom, start: float, early: float) -> DrawnRoom:
    """The room with the predelay and build-up with which its energy begins and gathers as measured."""
    seconds = np.arange(int(1300 * room.t60_seconds)) / 1000
    decay = 10 ** (-6 * seconds / room.t60_seconds)
    best = (np.inf, room)
    for build_up in _BUILD_UPS:
        power = decay * np.sin(np.pi / 2 * np.clip(seconds / build_up, 0, 1)) ** 2
        gathered = np.cumsum(power) / power.sum()
        predelay = start - float(seconds[np.argmax(gathered > _BEGUN)])
        within = gathered[min(max(int(1000 * (_EARLY_SECONDS - predelay)), 0), len(gathered) - 1)]
        off = abs(within - early) + 100 * max(0.001 - predelay, 0)
        if off < best[0]:
            place = float(np.clip(predelay, 0.001, 0.3))
            best = off, replace(room, predelay_seconds=place, build_up_seconds=float(build_up))
    return best[1]


def _filled(values: Doubles, usual: Doubles, known: Flags) -> Doubles:
    """Values where they are known; elsewhere those of the usual room, moved to meet the nearest known one."""
    places = np.flatnonzero(known)
    nearest = places[np.abs(np.arange(len(values))[:, None] - places[None]).argmin(axis=1)]
    is_ratio = bool((usual > 0).all())
    moved = usual * values[nearest] / usual[nearest] if is_ratio else usual + values[nearest] - usual[nearest]
    return np.where(known, values, moved)
