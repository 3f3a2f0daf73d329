"""The surfaces of a scene, cards, spheres and stems, and where rays meet them.

A surface is a row of numbers, so that compiled code runs over an array of them:

=======  ==========  ==================================================================
columns  name        meaning
=======  ==========  ==================================================================
0–2      point       middle of a card or sphere; one end of a stem
3–5      u           half a card's width as a vector; axis of a sphere; other end of a stem
6–8      v           half a card's height; second axis of a sphere; across a stem
9–11     normal      of a card; third axis of a sphere; across a stem
12       radius      of a sphere or stem; of a card 0, or 1 if it has no end
13–14    scale       texels in a half side of a card; in a radian of a sphere; in a unit of
                     length, and in a radian, of a stem
15–16    origin      of the texture, in texels
17–19    tint        factor of red, green and blue
=======  ==========  ==================================================================
"""

import math

from numba import njit

from benchmarks.raytracing import COMPILED

CARD, SPHERE, STEM = 0, 1, 2
NEVER = 1e30


@njit(**COMPILED)
def meet(row, kind, ox, oy, dx, dy, dz, most, at):
    """The first t at which the ray (ox, oy, 0) + t·(dx, dy, dz) meets a surface with 0 < t < most,
    or NEVER; ``at`` (5,) is given texture coordinates in texels and the normal."""
    if kind == CARD:
        toward = dx * row[9] + dy * row[10] + dz * row[11]
        if toward == 0.0:
            return NEVER
        t = ((row[0] - ox) * row[9] + (row[1] - oy) * row[10] + row[2] * row[11]) / toward
        if not 1e-9 < t < most:
            return NEVER
        x, y, z = ox + t * dx - row[0], oy + t * dy - row[1], t * dz - row[2]
        a = (x * row[3] + y * row[4] + z * row[5]) / (row[3] ** 2 + row[4] ** 2 + row[5] ** 2)
        b = (x * row[6] + y * row[7] + z * row[8]) / (row[6] ** 2 + row[7] ** 2 + row[8] ** 2)
        if row[12] == 0.0 and (abs(a) > 1 or abs(b) > 1):
            return NEVER
        at[0], at[1] = (a + 1) * row[13] + row[15], (b + 1) * row[14] + row[16]
        at[2], at[3], at[4] = row[9], row[10], row[11]
        return t
    if kind == SPHERE:
        t = _ball(row[0] - ox, row[1] - oy, row[2], row[12], dx, dy, dz)
        if not 1e-9 < t < most:
            return NEVER
        x = (ox + t * dx - row[0]) / row[12]
        y = (oy + t * dy - row[1]) / row[12]
        z = (t * dz - row[2]) / row[12]
        a = x * row[3] + y * row[4] + z * row[5]
        b = x * row[6] + y * row[7] + z * row[8]
        c = x * row[9] + y * row[10] + z * row[11]
        at[0] = math.atan2(a, c) * row[13] + row[15]
        at[1] = math.asin(min(1.0, max(-1.0, b))) * row[14] + row[16]
        at[2], at[3], at[4] = x, y, z
        return t
    return _stem(row, ox, oy, dx, dy, dz, most, at)


@njit(**COMPILED)
def _ball(x, y, z, radius, dx, dy, dz):
    """t at which a ray from the origin enters a ball around (x, y, z)."""
    a = dx * dx + dy * dy + dz * dz
    b = dx * x + dy * y + dz * z
    c = x * x + y * y + z * z - radius * radius
    root = b * b - a * c
    return (b - math.sqrt(root)) / a if root > 0 else NEVER


@njit(**COMPILED)
def _stem(row, ox, oy, dx, dy, dz, most, at):
    """:func:`meet` for a stem: a cylinder, and a ball at each end."""
    ax, ay, az = row[3] - row[0], row[4] - row[1], row[5] - row[2]
    length = math.sqrt(ax * ax + ay * ay + az * az)
    ax, ay, az = ax / length, ay / length, az / length
    px, py, pz = ox - row[0], oy - row[1], -row[2]
    da, pa = dx * ax + dy * ay + dz * az, px * ax + py * ay + pz * az
    # What is across the stem's axis: of the ray's direction, and of its origin.
    ex, ey, ez = dx - da * ax, dy - da * ay, dz - da * az
    qx, qy, qz = px - pa * ax, py - pa * ay, pz - pa * az
    a, b = ex * ex + ey * ey + ez * ez, ex * qx + ey * qy + ez * qz
    root = b * b - a * (qx * qx + qy * qy + qz * qz - row[12] * row[12])
    if root <= 0 or a == 0.0:
        return NEVER
    t = (-b - math.sqrt(root)) / a
    along = pa + t * da
    if along < 0:
        along, t = 0.0, _ball(-px, -py, -pz, row[12], dx, dy, dz)
    elif along > length:
        x, y, z = row[3] - ox, row[4] - oy, row[5]
        along, t = length, _ball(x, y, z, row[12], dx, dy, dz)
    if not 1e-9 < t < most:
        return NEVER
    x = (ox + t * dx - row[0] - along * ax) / row[12]
    y = (oy + t * dy - row[1] - along * ay) / row[12]
    z = (t * dz - row[2] - along * az) / row[12]
    a = x * row[6] + y * row[7] + z * row[8]
    b = x * row[9] + y * row[10] + z * row[11]
    at[0], at[1] = along * row[13] + row[15], math.atan2(b, a) * row[14] + row[16]
    at[2], at[3], at[4] = x, y, z
    return t
