"""Banks: the alphabet of audio tokens, voices and the nets that play them."""
