"""Readers and writers of image files, one library each; callers go through ``utils.images``."""
