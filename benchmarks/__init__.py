"""Figures of speed, as ratios against the alternative in one interleaved run."""
