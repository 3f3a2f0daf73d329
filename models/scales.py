"""At which resolution the cascade looks at a picture.

The cascade was trained on small samples with blur of a few pixels; in a photograph of a camera,
blur is many pixels wide. So a large one is looked at in half resolution first, and what is sure
there stays; full resolution decides the rest.
"""

WHOLE = 1_000_000  # pixels: smaller pictures are looked at in full resolution alone
UNSURE = 0.1  # boundary map at half resolution from which full resolution decides alone
