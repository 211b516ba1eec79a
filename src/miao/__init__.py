"""miao: a neural multi-instrument synthesizer. MIDI files in, music out.

Everything that is meant to be built on is a name of this package; importing it loads none of them yet.

>>> import miao
>>> score = miao.read_score("song.mid")
>>> audio = miao.Synthesizer.from_pretrained("gm").render(score, end=1.0)
>>> audio.save("song.wav")
0
>>> miao.read_audio("song.wav").duration
1.0

What a user can cause is a `MiaoError` whose text is one line; anything else that is raised is a fault of ours.

>>> try:
...     miao.read_score("nothing.mid")
... except miao.MiaoError as error:
...     print(error)
nothing.mid: there is no such file
"""

TYPE_CHECKING = False  # type checkers know better; `typing` alone would take longer than all of this

if TYPE_CHECKING:
    from typing import Any

    from miao.bank.bank import Bank as Bank
    from miao.bank.learnt_voice import LearntVoice as LearntVoice
    from miao.bank.learnt_voice import LearntVoice as Voice
    from miao.bank.learnt_voice import find_voice as find_voice
    from miao.errors import AudioError as AudioError
    from miao.errors import BankError as BankError
    from miao.errors import ConfigError as ConfigError
    from miao.errors import MiaoError as MiaoError
    from miao.errors import ScoreError as ScoreError
    from miao.midi.score import Score as Score
    from miao.midi.score import Track as Track
    from miao.midi.score import read_score as read_score
    from miao.midi.writing import write_score as write_score
    from miao.sound.audio import Audio as Audio
    from miao.sound.audio import read_audio as read_audio
    from miao.synth.journal import Job as Job
    from miao.synth.journal import Wishes as Wishes
    from miao.synth.many import Outcome as Outcome
    from miao.synth.many import plan as plan
    from miao.synth.many import render_many as render_many
    from miao.synth.synthesizer import RenderSummary as RenderSummary
    from miao.synth.synthesizer import Synthesizer as Synthesizer
    from miao.training.music_voice import LearntRecording as LearntRecording
    from miao.training.recording import learn_recording as learn_recording

    __version__: str

_PLACES = {  # file, and its name there where it is another one
    "Audio": "sound.audio",
    "AudioError": "errors",
    "Bank": "bank.bank",
    "BankError": "errors",
    "ConfigError": "errors",
    "Job": "synth.journal",
    "LearntRecording": "training.music_voice",
    "LearntVoice": "bank.learnt_voice",
    "MiaoError": "errors",
    "Outcome": "synth.many",
    "RenderSummary": "synth.synthesizer",
    "Score": "midi.score",
    "ScoreError": "errors",
    "Synthesizer": "synth.synthesizer",
    "Track": "midi.score",
    "Voice": "bank.learnt_voice.LearntVoice",
    "Wishes": "synth.journal",
    "find_voice": "bank.learnt_voice",
    "learn_recording": "training.recording",
    "plan": "synth.many",
    "read_audio": "sound.audio",
    "read_score": "midi.score",
    "render_many": "synth.many",
    "write_score": "midi.writing",
}

_BESIDE = {"Score": "expression", "read_score": "expression"}  # what gives a method to what is imported

__all__ = [
    "Audio", "AudioError", "Bank", "BankError", "ConfigError", "Job", "LearntRecording", "LearntVoice", "MiaoError",
    "Outcome", "RenderSummary", "Score", "ScoreError", "Synthesizer", "Track", "Voice", "Wishes", "__version__",
    "find_voice", "learn_recording", "plan", "read_audio", "read_score", "render_many", "write_score",
]  # fmt: skip


def __getattr__(name: str) -> "Any":
    """The public names, imported when first asked for, so that `import miao` and `miao --help` take no time."""
    if name == "__version__":
        from importlib.metadata import version

        globals()[name] = version("miao-synth")
        return globals()[name]
    if name not in _PLACES:
        raise AttributeError(f"module 'miao' has no attribute {name!r}")
    from importlib import import_module

    place = _PLACES[name]
    folder, file, *other = place.split(".") if "." in place else ("", place)
    module = import_module(f"miao.{folder}.{file}" if folder else f"miao.{file}")
    value = getattr(module, *other or [name])
    if name in _BESIDE:
        import_module(f"miao.{_BESIDE[name]}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
