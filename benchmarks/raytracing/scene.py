"""Tabletop scenes: a ground from near to far with objects on it, before a wall."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.raytracing.surfaces import CARD, SPHERE, STEM
from benchmarks.raytracing.textures import collage, light_of_values
from defocus.mattes import procedural_matte
from defocus.outlines import Size

WIDE = 1.2  # focal length in widths of the picture: 45° across
DETAIL = 1.25  # texels for a pixel where a surface is nearest
BRIGHTEST = 30.0  # times white
MATTES = ("foliage", "strokes", "grille", "holes", "text", "blob", "polygon", "soft")


@dataclass
class Scene:
    """Surfaces, their textures, and lights."""

    rows: list[np.ndarray] = field(default_factory=list)  # of surfaces, see :mod:`.surfaces`
    kinds: list[tuple[int, int, int]] = field(default_factory=list)  # kind, texture, matte or −1
    images: list[np.ndarray] = field(default_factory=list)  # (H, W, 3) uint8 sRGB
    mattes: list[np.ndarray] = field(default_factory=list)  # (H, W) float32 in [0, 1]
    # (N, 7) disks that face the camera: x, y, z, radius, light red, green, blue.
    emitters: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))
    sun: np.ndarray = field(default_factory=lambda: np.array((0.0, 0.0, -1.0)))  # towards it
    ambient: float = 1.0  # share of the light that comes from everywhere
    light: np.ndarray = field(default_factory=light_of_values)  # (256,), linear, of 8-bit values

    def texture(self, plane: np.ndarray) -> int:
        """Add an image or, of two dimensions, a matte; its number."""
        planes = self.images if plane.ndim == 3 else self.mattes
        planes.append(plane)
        return len(planes) - 1

    def card(
        self, point, u, v, texture: int, matte: int = -1, scale=(1.0, 1.0), endless=False, **look
    ) -> None:
        """A flat card with half sides u and v, u ⟂ v, or an endless plane through them."""
        normal = np.cross(u, v)
        normal = normal / np.linalg.norm(normal)
        self._add((CARD, texture, matte), (point, u, v, normal), float(endless), scale, **look)

    def sphere(self, point, radius: float, texture: int, axes, scale=(1.0, 1.0), **look) -> None:
        """A sphere; its texture is wrapped around axes[1] of axes (3, 3)."""
        self._add((SPHERE, texture, -1), (point, *axes), radius, scale, **look)

    def stem(self, one, two, radius: float, texture: int, scale=(1.0, 1.0), **look) -> None:
        """A cylinder between two points with round ends, so that a chain of them has no gaps."""
        along = np.asarray(two, float) - one
        across = np.cross(along, (0.0, 0.0, 1.0) if abs(along[2]) < max(abs(along)) else (0, 1, 0))
        across = across / np.linalg.norm(across)
        other = np.cross(along / np.linalg.norm(along), across)
        self._add((STEM, texture, -1), (one, two, across, other), radius, scale, **look)

    def _add(self, kind, vectors, radius, scale, origin=(0.0, 0.0), tint=(1.0, 1.0, 1.0)) -> None:
        parts = [np.asarray(vector, float).ravel() for vector in vectors]
        self.kinds.append(kind)
        self.rows.append(np.concatenate([*parts, [radius], scale, origin, tint]))

    def boxes(self) -> np.ndarray:
        """Bounds (N, 2, 3) of each: least and greatest x, y, z; infinite for an endless plane."""
        found = []
        for row, (kind, *_) in zip(self.rows, self.kinds, strict=True):
            point, u, v, reach = row[0:3], row[3:6], row[6:9], row[12]
            if kind == CARD:
                reach = np.inf if reach else abs(u) + abs(v)
            end = u if kind == STEM else point
            found.append((np.minimum(point, end) - reach, np.maximum(point, end) + reach))
        return np.array(found).reshape(-1, 2, 3)

    def packed(self) -> tuple[np.ndarray, ...]:
        """For compiled code: rows (N, 20) and kinds (N, 3) of the surfaces; colours (M, 3) end to
        end, and (offset, height, width) of each image; the same of the mattes; light; sun."""
        packed = [np.array(self.rows, np.float64).reshape(-1, 20)]
        packed += [np.array(self.kinds, np.int64).reshape(-1, 3)]
        empty = np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
        for planes, kind in zip((self.images, self.mattes), empty, strict=True):
            flat = [plane.reshape(-1, *kind.shape[1:]) for plane in planes]
            starts = np.cumsum([0, *map(len, flat)])
            places = [(start, *p.shape[:2]) for start, p in zip(starts, planes, strict=False)]
            packed += np.concatenate([kind, *flat]), np.array(places or [(0, 1, 1)], np.int64)
        sun = np.append(self.sun / np.linalg.norm(self.sun), self.ambient)
        return *packed, self.light, sun


class Table:
    """Makes :attr:`scene` from a seed, for images of a size (H, W) in pixels, with textures from
    photographs (H, W, 3) uint8 sRGB. Points on the table are (x, height above it, distance)."""

    def __init__(self, seed: tuple[int, ...], size: Size, photographs: Sequence[np.ndarray]):
        self.rng = rng = np.random.default_rng(seed)
        self.size, self.focal = size, WIDE * size[1]
        self.photographs = [photographs[i] for i in rng.permutation(len(photographs))[:24]]
        self.pitch, self.wall = math.radians(rng.uniform(16, 26)), rng.uniform(3.0, 4.2)
        self.scene = scene = Scene(ambient=rng.uniform(0.35, 0.6))
        scene.sun = np.array((rng.uniform(-1, 1), -rng.uniform(0.6, 1.2), -rng.uniform(0.3, 1)))
        self.images = [scene.texture(photograph) for photograph in self.photographs]
        self.glints: list[np.ndarray] = []
        self._room()
        things = {self._ball: (3, 7), self._card: (3, 6), self._tuft: (2, 5), self._wire: (1, 4)}
        for put, (least, most) in things.items():
            for _ in range(rng.integers(least, most)):
                put()
        self._lamps()
        scene.emitters = np.array(self.glints).reshape(-1, 7)

    def camera(self, point: Sequence[float]) -> np.ndarray:
        """A point of the table in the coordinates of the camera, which is 1 above it."""
        return self.turn((point[0], point[1] - 1, point[2]))

    def turn(self, vector: Sequence[float]) -> np.ndarray:
        """A direction on the table in the coordinates of the camera, which is tilted down."""
        x, up, away = vector
        sine, cosine = math.sin(self.pitch), math.cos(self.pitch)
        return np.array((x, -up * cosine - away * sine, -up * sine + away * cosine))

    def density(self, point: Sequence[float]) -> float:
        """Texels in a unit of length for a surface at this point of the table."""
        return DETAIL * self.focal / self.camera(point)[2]

    def place(self, near: float = 0.0) -> tuple[float, float]:
        """(x, distance) of a visible place on the table, as likely near as far."""
        far, close = 1 / (self.wall - 0.3), 1 / (1.45 + near)
        away = 1 / self.rng.uniform(far, close)
        half = self.size[1] / 2 / self.focal * (away * math.cos(self.pitch) + math.sin(self.pitch))
        return self.rng.uniform(-0.85, 0.85) * half, away

    def look(self) -> dict:
        """A texture: a photograph, where it begins, and a slight tint."""
        rng = self.rng
        tint = rng.uniform(0.75, 1.2) * rng.uniform(0.85, 1.15, 3)
        texture = self.images[rng.integers(len(self.images))]
        return {"texture": texture, "origin": rng.uniform(0, 300, 2), "tint": tint}

    def _room(self) -> None:
        """The ground, slightly tilted, and the wall behind it."""
        roll, yaw = self.rng.uniform(-0.04, 0.04), self.rng.uniform(-0.12, 0.12)
        across, back = self.wall / 2, self.wall
        density = 0.75 * self.density((0, 0, 1.3))
        sides = (across * density, back / 2 * density)
        axes = (across, roll * across, 0), (0, 0, back / 2)
        self._plane((0, 0, back / 2), *axes, sides, (1.5 * back * density, 2.2 * across * density))
        density = self.density((0, 0.5, self.wall))
        sides = (1.8 * density, 1.1 * density)
        axes = (1.8, 0, 1.8 * yaw), (0, -1.1, 0)
        self._plane((0, 0.8, self.wall), *axes, sides, (2.2 * density, 3.6 * density))

    def _plane(self, middle, u, v, scale, sheet: tuple[float, float]) -> None:
        """An endless plane with a collage of ``sheet`` texels (H, W)."""
        collage_ = collage(self.photographs, (int(sheet[0]), int(sheet[1])), self.rng)
        texture = self.scene.texture(collage_)
        u, v = self.turn(u), self.turn(v)
        v = v - u * (u @ v) / (u @ u)
        self.scene.card(self.camera(middle), u, v, texture, scale=scale, endless=True)

    def _ball(self) -> None:
        rng = self.rng
        x, away = self.place(0.25)
        radius = rng.uniform(0.05, 0.13) * away
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        middle = self.camera((x, radius, away))
        texels = self.density((x, radius, away)) * radius
        self.scene.sphere(middle, radius, axes=axes, scale=(texels, texels), **self.look())
        # The highlight: where the normal bisects the directions to the light and to the camera.
        sun, back = self.scene.sun / np.linalg.norm(self.scene.sun), -middle
        normal = sun + back / np.linalg.norm(back)
        spot = middle + 1.01 * radius * normal / np.linalg.norm(normal)
        self._glint(spot, rng.uniform(0.7, 2.5), rng.uniform(5, BRIGHTEST))

    def _card(self) -> None:
        """A leaf, a fence, lettering, … that stands or leans, seldom facing the camera."""
        rng = self.rng
        x, away = self.place(0.1)
        width, height = rng.uniform(0.16, 0.34, 2) * away
        yaw, lean = rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.35)
        u = np.array((math.cos(yaw), 0, math.sin(yaw))) * width / 2
        back = np.array((-math.sin(yaw), 0, math.cos(yaw)))
        v = (math.cos(lean) * np.array((0, -1.0, 0)) - math.sin(lean) * back) * height / 2
        middle = np.array((x, height / 2 * math.cos(lean) + rng.choice((0, 0.1)) * away, away))
        density = self.density(middle)
        texels = np.array((height, width)) * density
        matte = procedural_matte(tuple(np.ceil(texels).astype(int)), rng, MATTES)
        look = {"matte": self.scene.texture(matte), "scale": texels[::-1] / 2, **self.look()}
        self.scene.card(self.camera(middle), self.turn(u), self.turn(v), **look)

    def _tuft(self) -> None:
        """Blades of grass, stalks, hairs: chains of thin cylinders from one place."""
        rng = self.rng
        x, away = self.place()
        look, thick = self.look(), rng.uniform(0.0012, 0.006) * away
        for _ in range(rng.integers(3, 12)):
            root = np.array((x, 0, away)) + rng.normal(0, 0.04, 3) * (away, 0, away)
            length = rng.uniform(0.12, 0.34) * away
            heading, bend = rng.normal(0, 0.3, 3), rng.normal(0, 0.5, 3)
            heading[1] = 1.0
            points = [root]
            for _ in range(7):
                heading = heading + bend / 7
                points.append(points[-1] + length / 7 * heading / np.linalg.norm(heading))
            self._chain(points, thick * rng.uniform(0.6, 1.3) * np.linspace(1, 0.5, 7), look)
            if rng.random() < 0.3:
                front = self.camera(points[-1]) - (0, 0, 2 * thick)
                self._glint(front, rng.uniform(0.5, 1.5), rng.uniform(2, BRIGHTEST))

    def _wire(self) -> None:
        """A slightly sagging wire across the image, from nearer to farther."""
        rng = self.rng
        one, two = rng.uniform(1.5, self.wall - 0.4, 2)
        reach, height = 0.6 * self.wall, rng.uniform(0.05, 0.9, 2)
        share = np.linspace(0, 1, 9)
        sag = rng.uniform(0, 0.15) * 4 * share * (1 - share)
        up = np.maximum(height[0] + share * (height[1] - height[0]) - sag, 0.02)
        points = np.stack((reach * (2 * share - 1), up, one + share * (two - one)), -1)
        self._chain(points, np.full(8, rng.uniform(0.001, 0.003) * min(one, two)), self.look())

    def _chain(self, points: Sequence[np.ndarray], radii: np.ndarray, look: dict) -> None:
        """Stems from point to point with a continuous texture."""
        density, origin = self.density(points[0]), np.array(look["origin"])
        for one, two, radius in zip(points[:-1], points[1:], radii, strict=True):
            ends, scale = (self.camera(one), self.camera(two)), (density, radius * density)
            self.scene.stem(*ends, radius, scale=scale, **{**look, "origin": origin})
            origin = origin + (density * np.linalg.norm(two - one), 0)

    def _lamps(self) -> None:
        """Lights before the wall and sparks on the ground."""
        rng = self.rng
        for _ in range(rng.integers(2, 8)):
            point = self.camera((rng.uniform(-1.3, 1.3), rng.uniform(0.05, 1.5), self.wall - 0.25))
            self._glint(point, rng.uniform(0.8, 3), rng.uniform(3, BRIGHTEST))
        for _ in range(rng.integers(2, 8)):
            x, away = self.place()
            spot = self.camera((x, 0.03, away))
            self._glint(spot, rng.uniform(0.4, 1.2), rng.uniform(2, BRIGHTEST))

    def _glint(self, point: np.ndarray, radius: float, light: float) -> None:
        """A disk of a radius in pixels (at a width of 720) and ``light`` times white."""
        color = light * self.rng.uniform(0.7, 1.0, 3)
        size = radius * self.size[1] / 720 * point[2] / self.focal
        self.glints.append(np.concatenate((point, [size], color)))
