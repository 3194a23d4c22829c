"""Measured comparisons: perplexity, win rates with intervals, judges."""
