"""The web server: page, model and API behind one guard."""
