"""Focus stacks by tracing rays through a thin lens: a truth that the defocus model did not make.

Units: lengths in scene units, x to the right, y down, z away from the camera, the middle of the
lens at the origin. Angles of view are in pixels: a point at (x, y, z) is seen f·x/z pixels from the
middle. Light is linear, 1 is white.
"""
