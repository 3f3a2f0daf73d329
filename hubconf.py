"""Entry points of torch.hub.

>>> model = torch.hub.load("path/to/this/repository", "mmfnet", source="local")
>>> fusion = model(photographs)  # (B, N, 3, H, W): RGB in [0, 1], N ≥ 2, at least 16×16 pixels
>>> fusion.fused, fusion.guidance, fusion.boundary
"""

# With an underscore, since torch.hub takes every other callable for an entry point.
from models import WEIGHTS as _WEIGHTS
from models.boundary_fusion import SetBoundaryFusion as _SetBoundaryFusion
from models.build import load_model as _load_model
from models.initial_fusion import SetInitialFusion as _SetInitialFusion
from models.mmfnet import MMFNet as _MMFNet

dependencies = ["torch", "numpy", "safetensors"]


def mmfnet(pretrained: bool = True) -> _MMFNet:
    """MMF-Net: fuses photographs that are focused differently.

    It maps aligned photographs (B, N, 3, H, W), RGB in [0, 1], to ``fused`` (B, 3, H, W),
    ``guidance`` (B, N, 1, H, W) and ``boundary`` (B, 1, H, W), among others; see
    :class:`models.mmfnet.Fusion`. ``pretrained``: with the shipped weights, in evaluation mode;
    their terms are in weights/README.md. Otherwise with random ones, to be trained.
    """
    if pretrained:
        return _load_model(_WEIGHTS)
    return _MMFNet(_SetInitialFusion(), _SetBoundaryFusion())
