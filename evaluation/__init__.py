"""Comparison of fusion methods, run by ``evaluate.py``."""
