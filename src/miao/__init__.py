"""miao: a neural multi-instrument synthesizer. MIDI files in, music out.

>>> import miao
>>> miao.Synthesizer.from_pretrained("gm").render("song.mid").save("song.wav")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miao.midi.score import read_score
    from miao.synth.synthesizer import Synthesizer

    __version__: str

__all__ = ["Synthesizer", "__version__", "read_score"]


def __getattr__(name: str):
    """The public names, imported when first asked for, so that `import miao` and `miao --help` take no time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("miao-synth")
    if name == "Synthesizer":
        from miao.synth.synthesizer import Synthesizer

        return Synthesizer
    if name == "read_score":
        from miao.midi.score import read_score

        return read_score
    raise AttributeError(f"module 'miao' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
