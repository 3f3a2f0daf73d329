"""The guidance map against what it promises about the photographs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from defocus.guidance import (
    INVISIBLE,
    SOFT,
    VEIL,
    defocused_share,
    guidance_map,
    restorable,
    rightness,
)
from defocus.mattes import procedural_matte
from defocus.models import all_in_focus, background_in_focus, foreground_in_focus, layers_in_focus
from defocus.psf import disk, gaussian
from models.mmfnet import boundary_map

SIDE = 48


def guide(mattes, psfs1, psfs2):
    """Guidance map of two photographs of the same layers, whose blur is known."""
    return guidance_map(*(defocused_share(mattes, psfs) for psfs in (psfs1, psfs2)))


def scene(seed: int):
    """Foreground and background of unrelated noise, so that any share of either shows; matte."""
    rng = np.random.default_rng(seed)
    matte = torch.from_numpy(procedural_matte((SIDE, SIDE), rng))[None]
    return (*(torch.from_numpy(rng.random((3, SIDE, SIDE), np.float32)) for _ in "FB"), matte)


@given(st.integers(0, 10**6), st.floats(0.7, 4.5), st.sampled_from([gaussian, disk]))
@settings(max_examples=25, deadline=None)
def test_the_source_it_names_is_right(seed, radius, lens):
    foreground, background, matte = scene(seed)
    psf = lens(radius)
    truth = all_in_focus(foreground, background, matte)
    near = foreground_in_focus(foreground, background, matte, psf)
    far = background_in_focus(foreground, background, matte, psf)
    guidance = guide([matte], [None, psf], [psf, None])
    assert set(guidance.unique().tolist()) <= {0.0, 0.5, 1.0}
    error1, error2 = ((image - truth).abs().amax(0) for image in (near, far))
    only1, only2 = guidance[0] == 1, guidance[0] == 0
    assert not only1.any() or error1[only1].max() <= 1 / 255
    # A spot so small and faint that its spread is invisible is missing in the second.
    assert not only2.any() or (error2 - matte[0])[only2].max() <= 1 / 255


def test_no_source_is_right_on_the_boundary():
    # A straight edge, textures everywhere: the band is as wide as the PSF reaches on the
    # background's side, and within it each source is wrong somewhere.
    rng = np.random.default_rng(3)
    foreground, background = (
        torch.from_numpy(rng.random((3, SIDE, SIDE), np.float32)) for _ in "FB"
    )
    matte = (torch.arange(SIDE) < 20).float().expand(1, SIDE, SIDE)
    psf = disk(4.0)
    guidance = guide([matte], [None, psf], [psf, None])[0]
    assert guidance[0].tolist() == [1.0] * 20 + [0.5] * 4 + [0.0] * 24
    band = guidance == 0.5
    truth = all_in_focus(foreground, background, matte)
    for model in (foreground_in_focus, background_in_focus):
        error = (model(foreground, background, matte, psf) - truth).abs().amax(0)
        assert (error[band] > 1 / 255).float().mean() > 0.9


@pytest.mark.parametrize("radius", [1.5, 3.8])
def test_definition(radius):
    matte, psf = scene(11)[2], disk(radius)
    spread = ndimage.convolve(matte[0].double().numpy(), psf.double().numpy(), mode="nearest")
    first, second = 1 - matte[0].numpy() <= INVISIBLE, spread <= INVISIBLE
    expected = np.where(first & ~second, 1, np.where(second & ~first, 0, 0.5))
    guidance = guide([matte], [None, psf], [psf, None])[0].numpy()
    settled = np.abs(spread - INVISIBLE) > 1e-6  # where rounding does not decide
    assert settled.mean() > 0.99
    np.testing.assert_array_equal(guidance[settled], expected[settled])


def test_shares_compare_pixel_by_pixel():
    none, some = 0.9 * INVISIBLE, 1.1 * INVISIBLE
    share1, share2 = torch.tensor([[none, some, some, none], [some, none, some, none]])
    assert guidance_map(share1, share2).tolist() == [1, 0, 0.5, 0.5]


def test_exchanged_photographs_exchange_the_map():
    matte, near, far = scene(5)[2], disk(2.5), gaussian(1.5)
    one = guide([matte], [None, far], [near, None])
    other = guide([matte], [near, None], [None, far])
    assert torch.equal(one, 1 - other)
    pair, exchanged = (torch.stack([g, 1 - g]) for g in (one, other))
    assert torch.equal(boundary_map(pair), boundary_map(exchanged))


def test_layer_that_fills_the_frame():
    psf = disk(2.0)
    full = torch.ones(1, 8, 8)
    assert guide([full], [None, psf], [psf, None]).unique().tolist() == [1.0]
    assert guide([0 * full], [None, psf], [psf, None]).unique().tolist() == [0.0]
    same = guide([full], [None, psf], [None, psf])  # both right
    assert same.unique().tolist() == [0.5]


def test_three_layers_name_a_right_source():
    rng = np.random.default_rng(7)
    colors = [torch.from_numpy(rng.random((3, SIDE, SIDE), np.float32)) for _ in range(3)]
    mattes = [torch.from_numpy(procedural_matte((SIDE, SIDE), rng))[None] for _ in range(2)]
    lens = disk(2.0)
    settings_ = [[None, None, lens], [lens, lens, None]]
    guidance = guide(mattes, *settings_)[0]
    truth = layers_in_focus(colors, mattes, [None] * 3)
    for psfs, right in zip(settings_, (1, 0), strict=True):
        photograph = layers_in_focus(colors, mattes, psfs)
        error = (photograph - truth).abs().amax(0)[guidance == right]
        assert len(error) > 20 and error.max() <= 1 / 255


def test_share_is_all_or_nothing_without_boundaries():
    matte = scene(2)[2]
    assert defocused_share([matte], [None, None]).max() == 0
    everything = defocused_share([matte], [disk(2.0), disk(1.0)])
    torch.testing.assert_close(everything, torch.ones_like(matte))
    with pytest.raises(ValueError, match="shorter"):
        defocused_share([matte], [None])


def test_boundary_map_of_two_is_the_papers():
    one = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).view(1, 1, 5)
    boundary = boundary_map(torch.stack([one, 1 - one]))
    assert torch.equal(boundary, 1 - 2 * (one - 0.5).abs())


def test_boundary_map_of_many():
    columns = [[1, 0, 0], [0.8, 0.1, 0.1], [0.5, 0.5, 0], [0.4, 0.3, 0.3]]
    guidance = torch.tensor(columns).T.view(3, 1, 1, 4)
    torch.testing.assert_close(boundary_map(guidance), torch.tensor([[[0, 0.4, 1, 1]]]))


def decide(
    shares: list[list[float]],
    radii: list[list[float]],
    true: list[float] | None = None,
    true_radii: list[float] | None = None,
) -> list[float]:
    """G* of one pixel: for each photograph the shares and the radii of its layers; of the truth
    both, by default those that all photographs have at least."""
    true = true or [min(layer) for layer in zip(*shares, strict=True)]
    true_radii = true_radii or [min(layer) for layer in zip(*radii, strict=True)]
    pixels = [torch.tensor(x)[..., None, None] for x in (true, true_radii, shares, radii)]
    return rightness(*pixels).flatten().tolist()


def test_a_wire_that_a_photograph_does_not_show_makes_it_wrong():
    """A wire over 60 % of a pixel: out of focus it spreads over 20 pixels and leaves no veil. The
    photograph that shows it, and the background behind it blurred, is the least wrong."""
    shares = [[0.6, 0.4], [0.05, 0.95], [0.04, 0.96], [0.03, 0.97]]
    radii = [[0.0, 10.0], [10.0, 0.0], [9.7, 0.3], [10.3, 0.4]]
    assert decide(shares, radii, [0.6, 0.4]) == [0.5, 0.5, 0, 0]
    assert decide(shares, radii, [0.0, 1.0])[0] == 0  # beside the wire it is the veil that counts


def test_the_sharpest_of_those_that_are_right_wins():
    one_layer = [[1.0]] * 4
    assert decide(one_layer, [[1.2], [0.3], [0.4], [2.0]]) == [0, 1, 0, 0]
    assert decide(one_layer, [[1.2], [0.3], [0.3], [2.0]]) == [0, 0.5, 0.5, 0]  # equals share
    assert decide(one_layer, [[3.2], [3.1], [3.4], [4.0]]) == [0, 1, 0, 0]  # none in focus


def test_between_two_planes_of_focus_none_is_as_sharp_as_the_truth():
    one_layer = [[1.0]] * 3
    radii = [[0.8], [2.8], [0.9]]
    assert decide(one_layer, radii, true_radii=[0.0]) == [0.5, 0, 0.5]
    assert decide(one_layer, radii, true_radii=[0.4]) == [1, 0, 0]  # hardly blurrier than it


def test_a_plain_wall_is_as_sharp_out_of_focus():
    truth = torch.full((3, 20, 40), 0.4)
    truth[1, :, 30:] += 1.5 * SOFT  # an edge in one channel
    soft = truth.clone()
    soft[:, :, 29:31] = (truth[:, :, 29:30] + truth[:, :, 30:31]) / 2
    assert not restorable(soft, truth).any()  # wrong by 0.75 of what is noticeable
    truth[1, :, 30:] += 1.5 * SOFT
    softer = restorable(soft, truth)
    assert softer[:, 28:].all() and not softer[:, :28].any()  # and two pixels around


def test_beside_white_nothing_can_be_restored():
    """How bright a light was that is clipped cannot be seen, so nor what it was blurred into."""
    soft = torch.full((3, 20, 40), 0.5)
    truth = soft + 3 * SOFT
    assert restorable(soft, truth).all()
    for image, column in ((soft, 10), (truth, 30)):
        image[1, :, column] = 1  # one channel is enough, in either
    beside = torch.zeros(20, 40, dtype=torch.bool)
    beside[:, 7:14] = beside[:, 27:34] = True
    assert torch.equal(restorable(soft, truth), ~beside)


def test_a_veil_makes_a_photograph_wrong():
    # The far layer is sharp in photograph 1, where the near one spreads over it by 10 pixels.
    for veil, expected in ((0.9 * VEIL, [0, 1, 0]), (1.1 * VEIL, [0, 0.5, 0.5])):
        shares = [[0, 1], [veil, 1 - veil], [2 * veil, 1 - 2 * veil]]
        assert decide(shares, [[0.0, 10.0], [10.0, 0.0], [10.2, 0.2]]) == expected


def test_where_none_is_right_the_two_of_least_expected_blur_are_chosen_among_equals():
    shares = [[0.5, 0.5]] * 4
    assert decide(shares, [[0.0, 8.0], [4.0, 4.0], [8.0, 0.0], [9.0, 1.0]]) == [0.5, 0, 0.5, 0]
    assert decide(shares, [[0.0, 8.0], [6.0, 6.0], [7.0, 1.0], [9.0, 0.4]]) == [0.5, 0, 0, 0.5]
