"""Listening tests: pages for listeners, and their ratings."""

KINDS = ("mos", "abx", "mushra")
