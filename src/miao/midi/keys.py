"""Keys and pedals of a sound module: which notes sound on a channel, and what ends them.

- A note-off lets go the oldest open note of its pitch and channel, first among those of its own track; one that finds
  none is passed over. Two tracks that hold one key are two holds: a track that has played a note of its own on the
  channel ends no note of another.
- A key that is struck again does not stop what rings of it: the new sound joins. Of strokes that only a pedal still
  holds, at most four of one key ring on; then the oldest that was not struck harder than the new one is let go, as
  its share in the string's motion has been taken over by the later strokes.
- Sustain holds what is released while it is down until it comes up; sostenuto holds the keys that are down when it goes
  down. On pianos the pedal catches a key that came up within 60 ms before it (GM2's re-damper).
- Drums that exclude each other (GM2 2.8.1) do so by channel: the new one cuts the others.
- Mono mode (GM2 3.5.6): a new note ends the one before.
"""

from miao.midi.channel import Channel
from miao.midi.events import PLAIN, Action, Catch, Cut, KeyUp, Release, Silence, Start
from miao.midi.general_midi import CHOKES, KIT_CHOKES

CATCH_SECONDS = 0.06  # after a piano's key came up its string still sounds this long, before the damper has stopped it
RINGING_STROKES = 4  # of one key under a pedal
_new = tuple.__new__  # for the actions of notes; a NamedTuple's own way to be made takes three times as long


class Keys:
    """Adds to `actions` what follows from keys and pedals; notes are numbered from 0 as they start."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.n_notes = 0

    def note_on(self, time: float, track: int, channel: Channel, pitch: int, velocity: int) -> None:
        note = self.n_notes
        self.n_notes = note + 1
        shape, sound = PLAIN, channel.sound
        if sound.is_drum:
            if channel.port.kits:
                shape = channel.drum_shape(pitch)
            group = KIT_CHOKES.get(sound.program, CHOKES).get(pitch)
            if group is not None:
                for other in channel.choking.get(group, ()):
                    self.actions.append(Cut(time, other))
                channel.choking[group] = [note]
        elif not channel.is_plain:
            shape = channel.shape(pitch)
            if channel.is_mono:
                self._end_for_the_next(time, channel)
            channel.look()
        channel.last_pitch = pitch
        channel.tracks.add(track)
        if channel.held:
            self._thin_out(time, channel, pitch, velocity)
        self.actions.append(_new(Start, (time, note, channel.lane, track, pitch, velocity, sound, shape)))
        keys = channel.open.get(pitch)
        if keys is None:
            channel.open[pitch] = [(note, track, velocity)]
        else:
            keys.append((note, track, velocity))

    def note_off(self, time: float, track: int, channel: Channel, pitch: int) -> None:
        keys = channel.open.get(pitch)
        if keys:
            position = 0
            if keys[0][1] != track:
                position = next((i for i, key in enumerate(keys) if key[1] == track), -1)
                if position < 0 and track in channel.tracks:
                    return
                position = max(position, 0)
            note, _, velocity = keys.pop(position)
            self._let_go(time, channel, pitch, note, velocity)

    def _let_go(self, time: float, channel: Channel, pitch: int, note: int, velocity: int) -> None:
        """A key comes up: its sound goes on only if a pedal holds it."""
        if channel.is_down or note in channel.caught:
            channel.held.setdefault(pitch, []).append((note, velocity))
            self.actions.append(_new(KeyUp, (time, note)))
        else:
            self.actions.append(_new(Release, (time, note)))
            if channel.has_dampers:
                channel.recent.append((time, pitch, note, velocity))

    def _thin_out(self, time: float, channel: Channel, pitch: int, velocity: int) -> None:
        """Lets go the oldest stroke of a key that was no harder than the new one, if too many of them ring."""
        ringing = channel.held.get(pitch, [])
        if len(ringing) >= RINGING_STROKES:
            place = next((i for i, (_, struck) in enumerate(ringing) if struck <= velocity), None)
            if place is not None:
                self.actions.append(Release(time, ringing.pop(place)[0]))

    def _end_for_the_next(self, time: float, channel: Channel) -> None:
        """Mono mode: whatever sounds ends at once, as the next note takes its place."""
        sounding = [key[0] for keys in channel.open.values() for key in keys]
        sounding += [note for notes in channel.held.values() for note, _ in notes]
        for note in sounding:
            self.actions += (Release(time, note), Cut(time, note))
        channel.open.clear()
        channel.held.clear()

    def release_all(self, time: float, channel: Channel) -> None:
        """All keys come up; pedals go on holding."""
        keys = [(pitch, key) for pitch, keys in channel.open.items() for key in keys]
        channel.open.clear()
        for pitch, (note, _, velocity) in keys:
            self._let_go(time, channel, pitch, note, velocity)

    def drop_all(self, time: float, channel: Channel) -> None:
        """Lets go what keys and pedals hold."""
        held = [note for notes in channel.held.values() for note, _ in notes]
        keys = [key[0] for keys in channel.open.values() for key in keys]
        self.actions += [Release(time, note) for note in held + keys]
        channel.open.clear()
        channel.held.clear()
        channel.recent.clear()
        channel.caught.clear()

    def silence(self, time: float, channel: Channel) -> None:
        self.drop_all(time, channel)
        channel.choking.clear()
        self.actions.append(Silence(time, channel.lane))

    # pedals

    def sustain(self, time: float, channel: Channel, is_down: bool) -> None:
        channel.is_down = is_down
        if is_down:
            for released, pitch, note, velocity in channel.recent:
                if time - released <= CATCH_SECONDS:
                    channel.held.setdefault(pitch, []).append((note, velocity))
                    self.actions.append(Catch(time, note))
            channel.recent.clear()
        else:
            self._release_held(time, channel)

    def sostenuto(self, time: float, channel: Channel, is_down: bool) -> None:
        if is_down:
            channel.caught = {key[0] for keys in channel.open.values() for key in keys}
        else:
            channel.caught.clear()
            if not channel.is_down:
                self._release_held(time, channel)

    def _release_held(self, time: float, channel: Channel) -> None:
        """Lets go what no pedal holds any more."""
        held = channel.held
        channel.held = {}
        for pitch, notes in held.items():
            for note, velocity in notes:
                if note in channel.caught:
                    channel.held.setdefault(pitch, []).append((note, velocity))
                else:
                    self.actions.append(_new(Release, (time, note)))
