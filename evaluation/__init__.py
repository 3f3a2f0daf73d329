"""Comparison of fusion methods: which file belongs to which pair, metrics, tables, figures, peers.

``evaluate.py`` is the command line; each file here is one noun and usable on its own.
"""
