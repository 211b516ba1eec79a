"""The page: a server that plays songs in a browser, and the page itself in plain HTML, CSS and JS."""
