"""Measuring: from sound to tokens, partials, voices."""
