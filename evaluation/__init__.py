"""Comparison of systems: metrics, statistics, table and report."""

# Names of systems: the baseline, the last row, and the low-pass filtered recording of MUSHRA tests
GRIFFIN_LIM, RECORDINGS, ANCHOR = BUILT_IN_NAMES = "Griffin-Lim", "Recordings", "Anchor"
