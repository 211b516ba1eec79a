"""Expression and mood: a score played as a person would, calm or angry, by the amount asked for."""

from miao.expression.moods import MOODS, Cues, cues_of
from miao.expression.play import expressed
from miao.midi.score import Score

Score.performer = expressed  # whoever reads a score may then say `score.expressed(...)`

__all__ = ["MOODS", "Cues", "cues_of", "expressed"]
