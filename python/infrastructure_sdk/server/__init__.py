"""Serving a session to a browser or to a local port."""
