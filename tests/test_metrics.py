"""The metrics against golden values, other implementations, their formulas and properties."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from tests import octave
from tests.conftest import ROOT
from tests.octave import TOLERANCE
from utils.errors import UserError
from utils.metrics import METRICS, evaluate, luma
from utils.metrics.__main__ import main, sample, unsharp_table
from utils.metrics.core import paper_luma
from utils.metrics.information import _windows, window_information

GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text())

NEEDS = {
    kind: [symbol for symbol, metric in METRICS.items() if metric.needs == kind]
    for kind in ("fused", "sources", "truth")
}
TWO_SOURCES_ONLY = {"Q_SCD", "Q_C", "Q_Y"}
SIZE = 48
"""Smallest convenient size on which every fusion metric is defined."""


def textured(seed: int, size: int = SIZE) -> np.ndarray:
    """Grey image of blobs and noise, the same for the same seed."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(0, 200, (size // 8, size // 8)), np.ones((8, 8), int))
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)


def call(symbol: str, a: np.ndarray, b: np.ndarray, fused: np.ndarray) -> float:
    """Evaluate with sources ``a`` and ``b``, ``a`` also as the truth."""
    return evaluate(METRICS[symbol], [a, b], fused, a)


seeds = st.integers(0, 2**31)
quick = settings(max_examples=4, deadline=None)


@pytest.fixture(scope="module")
def images():
    return sample(GOLDEN["size"])


@pytest.mark.parametrize("symbol", METRICS)
def test_golden_values_of_our_own_images(images, symbol):
    assert evaluate(METRICS[symbol], *images) == pytest.approx(
        GOLDEN["values"][symbol], rel=TOLERANCE
    )


@pytest.mark.skipif(bool(octave.absent()), reason=f"{octave.absent()} fetches the images")
def test_values_of_the_authors_matlab_code():
    """One pair of each method; ``python -m tests.octave`` does them all."""
    first = {line["method"]: line for line in reversed(octave.published_values())}
    rows = list(octave.agreement(octave.DATASETS, first.values()))
    assert len(rows) == 3 * 17
    assert [row for row in rows if row.difference > TOLERANCE] == []


@pytest.mark.parametrize("symbol", NEEDS["sources"])
@quick
@given(seed=seeds)
def test_sources_may_be_exchanged(symbol, seed):
    a, b, fused = (textured(seed + i) for i in range(3))
    assert call(symbol, a, b, fused) == pytest.approx(call(symbol, b, a, fused), rel=1e-6)


EXTREMES = {
    "Q_MI": 2,
    "Q_FMI": 1,
    "Q_G": 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4)),
    "Q_W": 1,
    "Q_C": 1,
    "Q_Y": 1,
    "SSIM_F": 1,
    "Q_CB": 1,
    "Q_CV": 0,
    "VIFF": 1,
    "PSNR": np.inf,
    "SSIM": 1,
    "MS-SSIM": 1,
    "GMSD": 0,
}


@pytest.mark.parametrize("symbol", EXTREMES)
@quick
@given(seed=seeds)
def test_identical_images_give_the_extreme(symbol, seed):
    image = textured(seed, 176 if symbol == "MS-SSIM" else SIZE)
    best = call(symbol, image, image, image)
    assert best == pytest.approx(EXTREMES[symbol], rel=1e-5, abs=1e-9)
    noise = np.random.default_rng(seed).integers(-9, 10, image.shape)
    worse = call(symbol, image, image, np.clip(image + noise, 0, 255).astype(np.uint8))
    assert worse < best if METRICS[symbol].higher_is_better else worse > best


def test_identical_images_where_the_extreme_depends_on_them():
    image = textured(7)
    stretched = np.floor((image - image.min()) / np.ptp(image.astype(float)) * 255 + 0.5)
    p = np.unique(stretched, return_counts=True)[1] / image.size
    tsallis = 2 * (1 - (p ** (2 - 1.85)).sum()) / (1 - 1.85)
    assert call("Q_TE", image, image, image) == pytest.approx(tsallis, rel=1e-9)
    r = -(p * np.log2(p)).sum() / 8
    eigenvalues = np.array([1 - r, 1 - r, 1 + 2 * r]) / 3
    ncie = 1 + (eigenvalues * np.log2(eigenvalues)).sum() / 8
    assert call("Q_NCIE", image, image, image) == pytest.approx(ncie, rel=1e-9)
    noise = np.random.default_rng(7).integers(-9, 10, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert call("Q_P", image, image, noisy) < call("Q_P", image, image, image) <= 1
    with pytest.raises(UserError, match="not defined"):
        call("Q_SCD", image, image, image)


@pytest.mark.parametrize("symbol", METRICS)
@pytest.mark.parametrize("size", [16, SIZE])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_and_small_images_give_a_number_or_say_why(symbol, size, level):
    flat, image = np.full((size, size), level, np.uint8), textured(3, size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for trio in (
            (image, image, image),
            (flat, flat, flat),
            (image, flat, image),
            (image, image, flat),
        ):
            try:
                assert not np.isnan(call(symbol, *trio))
            except UserError as error:
                assert "not defined" in str(error) or "at least" in str(error)


@pytest.mark.parametrize("symbol", METRICS)
def test_bit_depth_changes_nothing(symbol):
    size = max(SIZE, METRICS[symbol].smallest)
    trio = [np.stack([textured(i + 3 * k, size) for k in range(3)], -1) for i in range(3)]
    eight = call(symbol, *trio)
    assert call(symbol, *(image.astype(np.uint16) * 257 for image in trio)) == eight
    assert call(symbol, *(image.astype(np.float32) / 255 for image in trio)) == eight


@pytest.mark.parametrize("symbol", NEEDS["sources"])
def test_more_than_two_sources(symbol):
    a, b, c, fused = (textured(i) for i in range(4))
    if symbol in TWO_SOURCES_ONLY:
        with pytest.raises(UserError, match="two sources"):
            METRICS[symbol]([a, b, c], fused)
        return
    value = METRICS[symbol]([a, b, c], fused)
    assert METRICS[symbol]([c, a, b], fused) == pytest.approx(value, rel=1e-6)
    with pytest.raises(UserError, match="two or more"):
        METRICS[symbol]([a], fused)


def test_luma_is_the_references():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
    np.testing.assert_array_equal(luma(colours), [[76, 150, 29, 77]])
    between = np.array([[[0, 18, 245]]], np.uint8)  # 38.50 by Matlab's weights, 38.496 by 0.299 …
    assert (luma(between), paper_luma(between)) == (39, 38)


def loop_differences(grey: np.ndarray) -> list[tuple[float, float]]:
    rows, columns = grey.shape
    return [
        (
            float(grey[i, min(j + 1, columns - 1)]) - float(grey[i, j]),
            float(grey[min(i + 1, rows - 1), j]) - float(grey[i, j]),
        )
        for i in range(rows)
        for j in range(columns)
    ]


def test_gradient_metrics_by_loops():
    grey = textured(1, 16)
    steps = loop_differences(grey)
    lengths = [(dx * dx + dy * dy) ** 0.5 for dx, dy in steps]
    expected = {
        "AG": sum(lengths) / (4 * 15 * 15),
        "GLD": sum(abs(dx) + abs(dy) for dx, dy in steps) / (15 * 15),
        "AG_common": sum(length / 2**0.5 for length in lengths) / 256,
        "SF": (sum(dx * dx + dy * dy for dx, dy in steps) / 256) ** 0.5,
    }
    for symbol, value in expected.items():
        assert METRICS[symbol](grey) == pytest.approx(value)


def test_simple_images_give_values_known_by_hand():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 16, axis=0)
    assert METRICS["EN"](ramp) == pytest.approx(8)
    assert METRICS["EN"](ramp // 128) == pytest.approx(1)
    halves = np.repeat([[0], [255]], 8, axis=0) * np.ones((1, 16), int)
    assert METRICS["MSD"](halves.astype(np.uint8)) == pytest.approx(0.25)
    assert METRICS["LIF"](halves.astype(np.uint8)) == pytest.approx(0)
    assert METRICS["SD"](halves.astype(np.uint8)) == pytest.approx(127.5 * (16 / 15) ** 0.5)
    assert METRICS["EI"](ramp) == pytest.approx((254 * 8 + 2 * 4) / 256)


def test_scd_and_ssim_by_other_libraries():
    a, b, fused = (textured(i) for i in range(3))
    a_, b_, f = (image.astype(float) for image in (a, b, fused))
    scd = np.corrcoef((f - b_).ravel(), a_.ravel())[0, 1]
    scd += np.corrcoef((f - a_).ravel(), b_.ravel())[0, 1]
    assert METRICS["Q_SCD"]([a, b], fused) == pytest.approx(scd)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = np.mean([structural_similarity(s, f, data_range=255, **options) for s in (a_, b_)])
    assert METRICS["SSIM_F"]([a, b], fused) == pytest.approx(ssim)


def loop_window_information(a: np.ndarray, f: np.ndarray) -> float:
    """Fast-FMI of one window as its authors' loops state it, in double precision."""

    def distribution(x):
        x = x.astype(float)
        x = np.ones(9) if np.ptp(x) == 0 else (x - x.min()) / np.ptp(x)
        return x / x.sum()

    def deviation(p):
        index = np.arange(1, 10)
        return max((index**2 * p).sum() - (index * p).sum() ** 2, 0) ** 0.5

    def entropy(p):
        return -sum(x * np.log2(abs(x)) for x in p.ravel() if x != 0)

    p_a, p_f = distribution(a), distribution(f)
    d_a, d_f = p_a - p_a.mean(), p_f - p_f.mean()
    c = (d_a * d_f).sum()
    c = c / ((d_a**2).sum() * (d_f**2).sum()) ** 0.5 if abs(c) > 1e-15 else 0
    up_a, up_f = np.r_[0, p_a.cumsum()], np.r_[0, p_f.cumsum()]
    if c >= 0:
        bound = np.minimum.outer(up_f, up_a)
    else:
        bound = np.maximum(np.add.outer(up_f, up_a) - 1, 0)
    spread = deviation(p_a) * deviation(p_f)
    covariance = (bound - np.outer(up_f, up_a))[1:, 1:].sum()
    phi = c * spread / covariance if c != 0 and spread > 1e-6 else 0
    mass = np.diff(np.diff(bound, axis=0), axis=1)
    joint = phi * mass + (1 - phi) * np.outer(p_f, p_a)
    marginals = entropy(p_a) + entropy(p_f)
    return 2 * (marginals - entropy(joint)) / marginals if marginals > 0 else 0.0


@quick
@given(seed=seeds, levels=st.sampled_from([2, 4, 200]))
def test_fmi_by_loops(seed, levels):
    a, f = np.random.default_rng(seed).integers(0, levels, (2, 9, 9)).astype(float)
    windows_a, windows_f = _windows(a), _windows(f)
    expected = [
        loop_window_information(x, y) for x, y in zip(windows_a.T, windows_f.T, strict=True)
    ]
    np.testing.assert_allclose(window_information(windows_a, windows_f), expected, atol=2e-4)


@pytest.mark.parametrize("symbol", NEEDS["truth"])
def test_masks(symbol):
    truth = textured(5, 192)
    noise = np.random.default_rng(0).integers(-60, 61, truth.shape)
    fused = np.clip(truth + noise, 0, 255).astype(np.uint8)
    half = np.zeros(truth.shape, bool)
    half[:, :96] = True
    metric, everywhere = METRICS[symbol], np.ones(truth.shape, bool)
    assert metric(truth, fused, mask=everywhere) == pytest.approx(metric(truth, fused))
    repaired = fused.copy()
    repaired[:, :112] = truth[:, :112]
    perfect = metric(truth, repaired, mask=half)
    assert perfect == pytest.approx(EXTREMES[symbol], abs=0.02)
    assert metric(truth, repaired, mask=~half) != pytest.approx(perfect, abs=0.02)
    for wrong in (half[:-1], half.astype(int), np.zeros_like(half)):
        with pytest.raises(UserError, match="mask"):
            metric(truth, fused, mask=wrong)


def test_psnr_in_a_mask_by_its_formula():
    truth, fused, mask = textured(1), textured(2), textured(3) > 100
    error = (truth[mask].astype(float) - fused[mask]) ** 2
    expected = 10 * np.log10(255**2 / error.mean())
    assert METRICS["PSNR"](truth, fused, mask) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((16, 16, 4), np.uint8), "must be"),
        (np.zeros(16, np.uint8), "must be"),
        (np.zeros((16, 16), np.int32), "uint8, uint16 or float"),
        (np.full((16, 16), 2.0), r"in \[0, 1\]"),
        (np.full((16, 16), np.nan), r"in \[0, 1\]"),
    ],
)
def test_images_that_cannot_be_converted(image, message):
    with pytest.raises(UserError, match=message):
        METRICS["AG"](image)


def test_sizes_that_differ():
    with pytest.raises(UserError, match="sizes differ"):
        METRICS["Q_G"]([textured(1), textured(2, 56)], textured(3))


def test_sharpening_raises_the_papers_metrics_and_lowers_fidelity():
    rows = [values for _, values in unsharp_table(256)]
    for before, after in zip(rows, rows[1:], strict=False):
        assert all(after[symbol] > before[symbol] for symbol in ("AG", "MSD", "GLD"))
        assert after["LIF"] < before["LIF"]
        assert after["PSNR"] < before["PSNR"] and after["SSIM"] < before["SSIM"]


def test_profile_names_each_metric_and_the_slowest(capsys):
    assert main(["--profile", "--size", "176"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {symbol} " in printed for symbol in METRICS)
    for part in printed.split("slowest ")[1:]:
        slowest, *rows = (line.split() for line in part.splitlines() if "seconds" not in line)
        times = [float(row[1]) for row in rows]
        assert slowest == rows[0][:1] and times == sorted(times, reverse=True)


@pytest.mark.parametrize("size", ["0", "175", "1025"])
def test_sizes_that_not_all_metrics_take_are_refused(size, capsys):
    with pytest.raises(SystemExit):
        main(["--profile", "--size", size])
    assert "--size must be 176 to 1024" in capsys.readouterr().err
