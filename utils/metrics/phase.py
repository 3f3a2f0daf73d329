"""Q_P: correlation of phase congruency features of the sources and the fused image."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import fft

from utils.metrics.core import GAUSSIAN_11, shared, smooth

SCALES, ORIENTATIONS = 4, 6
EPSILON = 1e-4  # Kovesi's guard against division by zero
FEATURE = 0.1  # phase congruency above which a pixel is a feature


def _frequencies(length: int, edge: int) -> np.ndarray:
    """FFT frequencies of an axis; ``edge`` is 1 where odd lengths are to reach ±0.5 exactly."""
    return fft.fftfreq(length) * length / (length - edge * (length % 2))


@functools.lru_cache(maxsize=2)
def log_gabor(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Radial (4, H, W) and angular (6, H, W) parts of the log-Gabor filters, zero frequency first.

    Wavelengths 3·2.1^s, bandwidth 0.55, low-passed by a Butterworth of order 15 at 0.45; angular
    Gaussians of σ = 30°/1.2.
    """
    x, y = _frequencies(columns, 1)[None], _frequencies(rows, 1)[:, None]
    radius, theta = np.hypot(x, y), np.arctan2(-y, x)
    radius[0, 0] = 1
    frequency = np.hypot(_frequencies(columns, 0), _frequencies(rows, 0)[:, None])
    low_pass = 1 / (1 + (frequency / 0.45) ** 30)
    wavelengths = 3 * 2.1 ** np.arange(SCALES)[:, None, None]
    radial = np.exp(-(np.log(radius * wavelengths) ** 2) / (2 * np.log(0.55) ** 2)) * low_pass
    radial[:, 0, 0] = 0
    angles = np.arange(ORIENTATIONS)[:, None, None] * np.pi / ORIENTATIONS
    distance = np.angle(np.exp(1j * (theta - angles)))
    sigma = np.pi / ORIENTATIONS / 1.2
    angular = np.exp(-(distance**2) / (2 * sigma**2))
    return radial.astype(np.float32), angular.astype(np.float32)


@shared
def phase_congruency(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phase congruency of an image and the moments of its covariance over orientation.

    P. Kovesi, Image Features from Phase Congruency, Videre 1 (1999), his PC₂ measure with the
    default parameters of ``phasecong2``.

    Returns:
        Phase congruency in [0, 1], maximum moment (edges), minimum moment (corners), each (H, W).
    """
    radial, angular = log_gabor(*image.shape)
    # single precision halves the time and moves Q_P by less than 1e-5
    spectrum = fft.fft2(image - image.mean()).astype(np.complex64)
    energy_total, amplitude_total, xx, yy, xy = np.zeros((5, *image.shape), np.float32)
    for orientation, spread in enumerate(angular):
        responses = [fft.ifft2(spectrum * (band * spread)) for band in radial]
        amplitudes = [np.abs(response) for response in responses]
        amplitude = sum(amplitudes)
        mean = sum(responses)
        mean /= np.abs(mean) + EPSILON
        energy = np.zeros(image.shape, np.float32)
        for response in responses:
            along = response * mean.conj()
            energy += along.real - np.abs(along.imag)
        energy -= _noise_threshold(amplitudes[0], radial, spread)
        np.maximum(energy, 0, out=energy)
        width = amplitude / (np.maximum.reduce(amplitudes) + EPSILON) / SCALES
        energy /= 1 + np.exp(10 * (0.5 - width))
        energy_total += energy
        amplitude_total += amplitude
        congruency = np.divide(energy, amplitude, out=np.zeros_like(energy), where=amplitude > 0)
        angle = orientation * np.pi / ORIENTATIONS
        squared = congruency**2
        xx += squared * np.cos(angle) ** 2
        yy += squared * np.sin(angle) ** 2
        xy += squared * (np.cos(angle) * np.sin(angle))
    xx, yy, xy = (np.stack([xx, yy, xy / 2]) / (ORIENTATIONS / 2)).astype(float)
    spread = np.hypot(xy, xx - yy) + EPSILON
    return (
        (energy_total / (amplitude_total + EPSILON)).astype(float),
        (xx + yy + spread) / 2,
        (xx + yy - spread) / 2,
    )


def _noise_threshold(amplitude: np.ndarray, radial: np.ndarray, spread: np.ndarray) -> float:
    """Energy that noise alone would give: mean + 2σ of its Rayleigh law, over Kovesi's 1.7.

    The noise power comes from the median response at the finest scale. By Parseval, Kovesi's sum
    over the filters' impulse responses is a sum over their even parts in the frequency domain.
    """
    power = np.median(amplitude) ** 2 / np.log(2) / ((radial[0] * spread) ** 2).sum()
    total = radial.sum(axis=0) * spread
    even = (total + np.roll(total[::-1, ::-1], 1, axis=(0, 1))) / 2
    tau = np.sqrt(power * (even**2).sum())
    return tau * (np.sqrt(np.pi / 2) + 2 * np.sqrt(2 - np.pi / 2)) / 1.7


def feature_correlation(
    features: Sequence[np.ndarray], masks: Sequence[np.ndarray], fused: np.ndarray
) -> float:
    """Mean over the last mask of the best local correlation of a masked feature with ``fused``."""
    mean_f = smooth(fused, GAUSSIAN_11)
    variance_f = smooth(fused**2, GAUSSIAN_11) - mean_f**2
    best = np.full(fused.shape, -np.inf)
    for feature, mask in zip(features, masks, strict=True):
        feature = feature * mask
        mean = smooth(feature, GAUSSIAN_11)
        variance = smooth(feature**2, GAUSSIAN_11) - mean**2
        covariance = smooth(feature * fused, GAUSSIAN_11) - mean * mean_f
        local = (covariance + 1e-4) / (np.sqrt(np.abs(variance * variance_f)) + 1e-4)
        np.maximum(best, np.where(mask, local, 0), out=best)
    return best.sum() / masks[-1].sum()


def q_p(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_P = P·M·m, the correlations of phase congruency and of its maximum and minimum moment.

    Each pixel's correlation is the best with a source, or with the per-pixel selection of the
    source that has the larger phase congruency; nan where no pixel of the sources is a feature.
    """
    maps = [phase_congruency(source) for source in sources]
    strongest = np.argmax([m[0] for m in maps], axis=0)[None]
    quality = 1.0
    masks: list[np.ndarray] = []
    for kind, feature_f in enumerate(phase_congruency(fused)):
        features = [m[kind] for m in maps]
        features.append(np.take_along_axis(np.stack(features), strongest, axis=0)[0])
        masks = masks or [feature > FEATURE for feature in features]
        if not masks[-1].any():
            return np.nan
        quality *= feature_correlation(features, masks, feature_f)
    return quality
