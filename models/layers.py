"""Building blocks: the paper's residual block, and layers that treat N photographs as a set.

Features of a set are (B, N, C, H, W), or (N, C, H, W) of one scene alone, as they are exported:
runtimes are fastest with four axes. Reordering the photographs reorders the features of every layer
alike, by construction and for any N.
"""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIMIT = 6.0  # activations stay below it, so that half precision holds them


class ResBlock(nn.Module):
    """conv3×3 – ReLU – conv3×3, scaled and added to its input; no batch norm (figure 5)."""

    def __init__(self, channels: int, scale: float = 1.0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.conv2(F.relu(self.conv1(x)))


class ResNet(nn.Module):
    """The paper's sub-nets: conv, ResBlocks (those from ``scaled_from`` on scaled by 0.1), conv,
    conv; Kaiming normal with a = 0.1 and biases at zero to begin with, as in the released code."""

    def __init__(
        self, inputs: int, outputs: int, channels: int, blocks: int, scaled_from: int | None = None
    ):
        super().__init__()
        full = blocks if scaled_from is None else scaled_from
        scales = (1.0 if i < full else 0.1 for i in range(blocks))
        self.head = nn.Conv2d(inputs, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResBlock(channels, scale) for scale in scales))
        self.tail = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, outputs, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.tail(self.body(self.head(x.to(self.last.weight.dtype)))))


def each(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of each photograph (…, N, C, H, W) by itself."""
    return layer(x) if x.dim() == 4 else layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def mean(x: Tensor) -> Tensor:
    """Mean (…, 1, C, H, W) of a set (…, N, C, H, W)."""
    return x.mean(0, keepdim=True) if x.dim() == 4 else _Mean.apply(x)[:, None]


def maximum(x: Tensor) -> Tensor:
    """Maximum (…, 1, C, H, W) over a set (…, N, C, H, W)."""
    return x.amax(0, keepdim=True) if x.dim() == 4 else _fold(torch.maximum, x)[:, None]


def _fold(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """Reduce a set (B, N, …) over its photographs: on the CPU ten times as fast as PyTorch does,
    and the memory format is kept."""
    return functools.reduce(combine, x.unbind(1))


class _Mean(torch.autograd.Function):
    """The mean, whose gradient is a view: that of ``unbind`` is a copy in another memory format,
    and the convolutions before it then take twice as long."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _fold(torch.add, x) / x.shape[1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return (gradient / ctx.shape[1])[:, None].expand(ctx.shape)


def add_common(x: Tensor, common: Tensor) -> Tensor:
    """Add what is common (…, 1, C, H, W) to every element of a set (…, N, C, H, W)."""
    if torch.is_grad_enabled() and x.dim() > 4:
        return _AddCommon.apply(x, common)
    return _add(x, common)


class _AddCommon(torch.autograd.Function):
    """The sum, whose gradient by what is common is folded, as the mean is."""

    @staticmethod
    def forward(ctx, x: Tensor, common: Tensor) -> Tensor:
        return x + common

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, _fold(torch.add, gradient)[:, None]


def normalise(x: Tensor) -> Tensor:
    """Divide the features (…, N, C, H, W) of each pixel by their root mean square."""
    count = int(x.shape[-3])  # a constant of an exported graph
    size = torch.linalg.vector_norm(x, dim=-3, keepdim=True) / count**0.5
    return x / (size + 0.01)


class SetConv(nn.Module):
    """A convolution of each photograph, plus a convolution of their mean.

    Every linear map of a set that commutes with reordering acts on each element and on the mean of
    all (Zaheer et al., Deep Sets, 2017). ``common`` is the mean's kernel: 1 costs a ninth of 3.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, common: int = 1
    ):
        super().__init__()
        common = min(kernel, common)
        self.own = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        # oneDNN's gradient of a 1×1 convolution with a stride, 4 channels to 6, writes past its
        # memory: pixels are chosen before.
        self.every = stride if common == 1 else 1
        stride //= self.every
        self.common = nn.Conv2d(inputs, outputs, common, stride, common // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shared = mean(x)
        if self.every > 1:
            shared = shared[..., :: self.every, :: self.every]
        return add_common(each(self.own, x), each(self.common, shared))


class SetHalving(SetConv):
    """A convolution of 2×2 pixels at a time: of ``inputs`` planes, (…, N, inputs, H, W), to
    features at half resolution.

    Its weights are those of a :class:`SetConv` of 2×2 pixels as channels of one
    (:func:`torch.nn.functional.pixel_unshuffle`), but no such tensor is made.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, common: int = 1):
        super().__init__(4 * inputs, outputs, kernel, common=common)

    def forward(self, x: Tensor) -> Tensor:
        return add_common(each(self._halved(self.own), x), each(self._halved(self.common), mean(x)))

    @staticmethod
    def _halved(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        outputs, inputs, size, _ = conv.weight.shape
        # Not F.pixel_shuffle: this the exporter of graphs computes once and for all.
        weight = conv.weight.view(outputs, inputs // 4, 2, 2, size, size)
        weight = weight.permute(0, 1, 4, 2, 5, 3).reshape(outputs, -1, 2 * size, 2 * size)
        return lambda planes: F.conv2d(planes, weight, conv.bias, 2, 2 * conv.padding[0])


class SetResBlock(nn.Module):
    """The residual block of figure 5, of :class:`SetConv`.

    With ``normalised`` it works on normalised features, with a bounded leaky ReLU. A sub-net of
    which only decisions matter needs that: only deviations from the mean reach its output, so
    nothing else would keep the features that all photographs share from growing for ever. One whose
    output is a quantity needs the size of its features.
    """

    def __init__(self, channels: int, common: int = 1, normalised: bool = True):
        super().__init__()
        self.conv1 = SetConv(channels, channels, common=common)
        self.conv2 = SetConv(channels, channels, common=common)
        self.normalised = normalised
        with torch.no_grad():  # begin near the identity
            self.conv2.own.weight *= 0.2
            self.conv2.common.weight *= 0.2

    def forward(self, x: Tensor) -> Tensor:
        inplace = not torch.is_grad_enabled()
        if self.normalised:
            y = F.leaky_relu(self.conv1(normalise(x)), 0.1, inplace)
            y = y.clamp_max_(LIMIT) if inplace else y.clamp_max(LIMIT)
        else:
            y = F.relu(self.conv1(x), inplace)
        return _add(self.conv2(y), x)


class SetUNet(nn.Module):
    """A U-Net on every photograph of a set alike, each knowing of the others.

    Args:
        inputs: planes of each photograph.
        widths: channels of each level; a level has half the resolution of the one before, the first
            half of that of the photographs.
        blocks: residual blocks of each level on the way down; there is one on the way up.
        refine: further residual blocks at the end, at the first level.
        common, normalised: see :class:`SetConv` and :class:`SetResBlock`.
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        common: int = 1,
        normalised: bool = True,
        refine: int = 0,
    ):
        super().__init__()
        conv = functools.partial(SetConv, common=common)
        block = functools.partial(SetResBlock, common=common, normalised=normalised)
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.head = SetHalving(inputs, widths[0], common=common)
        self.encode = nn.ModuleList(
            nn.Sequential(*(block(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in steps)
        self.up = nn.ModuleList(conv(b, a, kernel=1) for a, b in steps)
        self.decode = nn.ModuleList(block(a) for a, _ in steps)
        self.refine = nn.Sequential(*(block(widths[0]) for _ in range(refine)))
        self.multiple = 2 ** len(widths)  # sides that it works on are multiples of it, in pixels

    def forward(self, x: Tensor) -> Tensor:
        """Features (…, N, widths[0], ⌈H/2⌉, ⌈W/2⌉) and a few more, to fill the grid, from (…, N,
        inputs, H, W)."""
        x = self.encode[0](self.head(fill(x, self.multiple).to(self.head.own.weight.dtype)))
        skips = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):
            skips.append(x)
            x = encode(down(x))
        for up, decode in list(zip(self.up, self.decode, strict=True))[::-1]:
            x = each(lambda y: F.interpolate(y, scale_factor=2), up(x))
            x = decode(_add(x, skips.pop()))
        return self.refine(x)


def amplify(photographs: Tensor) -> Tensor:
    """Stress what tells the photographs (…, N, 3, H, W) apart: far less than what they share."""
    common = mean(photographs)
    return common + 6 * (photographs - common)


def fill(x: Tensor, multiple: int) -> Tensor:
    """Pad the sides of (…, N, C, H, W) to multiples."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    if any(padding):
        x = each(lambda planes: F.pad(planes, padding, mode="replicate"), x)
    return x


def _add(x: Tensor, y: Tensor) -> Tensor:
    """x + y, in the memory of x unless a gradient is wanted: changing a view (and sets are views)
    costs the backward pass several copies."""
    return x + y if torch.is_grad_enabled() else x.add_(y)
