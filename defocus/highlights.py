"""Light brighter than white: highlights that a photograph has clipped, and glitter.

Blurred and then clipped, as by a camera, it becomes flat white images of the aperture.
"""

import numpy as np
from torch import Tensor

THRESHOLD = 0.85  # light from which on a photograph may have been clipped


def expand(light: Tensor, stops: float) -> Tensor:
    """Brighten what is near white, white itself by ``stops``; light is (3, H, W) in [0, 1]."""
    near = ((light.amax(0) - THRESHOLD) / (1 - THRESHOLD)).clamp_(0, 1)
    return light * near.square_().mul_(2.0**stops - 1).add_(1)


def glitter(
    light: Tensor,
    matte: Tensor | None,
    count: int,
    stops: tuple[float, float],
    radius: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Add ``count`` points brighter than white to the visible part of a layer, in place.

    Light is (3, H, W) linear, the matte (1, H, W), or None for an opaque layer. Brightness is
    drawn from the range ``stops`` above white, the radius from ``radius`` in pixels.
    """
    height, width = light.shape[-2:]
    if matte is None:
        places = rng.integers(0, height * width, count)
    else:
        visible = np.flatnonzero(matte.numpy() > 0.5)
        places = rng.choice(visible, count) if len(visible) else []
    canvas = light.numpy()
    for place in places:
        y, x = np.add(divmod(int(place), width), rng.uniform(-0.5, 0.5, 2))
        r = rng.uniform(*radius)
        color = 2 ** rng.uniform(*stops) * (1 - rng.uniform(0, 0.5) * rng.random(3))
        top, left = (int(max(0, np.floor(c - r))) for c in (y, x))
        spot = canvas[:, top : int(y + r) + 2, left : int(x + r) + 2]
        rows, columns = np.ogrid[: spot.shape[1], : spot.shape[2]]
        cover = np.clip(0.5 + r - np.hypot(rows + top - y, columns + left - x), 0, 1)
        spot += (color[:, None, None] * cover).astype(np.float32)
