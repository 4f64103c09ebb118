"""Comparison of systems: metrics, statistics, table and report."""

GRIFFIN_LIM, RECORDINGS = "Griffin-Lim", "Recordings"  # names of systems
