"""Focus stacks by tracing rays through a thin lens: a truth independent of the defocus model.

Lengths are in scene units: x to the right, y down, z away from the camera, the origin in the middle
of the lens. Focal lengths are in pixels: a point at (x, y, z) is seen f·x/z pixels from the middle.
Light is linear, 1 is white.
"""

# Nothing that is compiled makes an array, so that no references need be counted (`_nrt`): numba
# would count those of each array that is passed on, and take three quarters of the time for it.
COMPILED = {"nogil": True, "cache": True, "fastmath": True, "_nrt": False}
