"""Measurements of time, memory and truth on stacks; nothing else of the project imports them."""
