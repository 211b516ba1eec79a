"""Synthesis: from a score, or from events, to sound."""
