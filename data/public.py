"""The public image sources that :mod:`data.prepare` knows: addresses, checksums, terms, layout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file to download and the folder it becomes.

    ``members`` is a pattern of the members that are used, which become ``path`` (a template of its
    groups) inside ``folder``; ``files`` is their number. ``md5`` and ``size`` (bytes) are None
    where none is published. ``content`` is :func:`data.prepare.digest` of the files that our tables
    were measured on, where we have them. Without ``url`` it is an installed package of this name.
    """

    name: str
    url: str
    folder: str
    members: str
    files: int
    path: str = r"\1"
    md5: str | None = None
    size: int | None = None
    content: str | None = None


@dataclass(frozen=True)
class Source:
    """A public data set: where it comes from and on which terms."""

    name: str
    page: str
    terms: str
    citation: str
    archives: tuple[Archive, ...]


def _on_github(
    repository: str, commit: str, folder: str, terms: str, citation: str, **layout
) -> Source:
    """A source that GitHub packs on demand, so that no checksum of the archive can hold."""
    page = f"https://github.com/{repository}"
    archive = f"{repository.split('/')[1]}.zip"
    files = Archive(archive, f"{page}/archive/{commit}.zip", folder, **layout)
    return Source(folder.split("/")[-1], page, terms, citation, (files,))


_SOURCES = (
    Source(
        "coco-val2017",
        "https://cocodataset.org/#download",
        "annotations CC BY 4.0; photographs under the terms of Flickr, the licence of each in "
        "the annotations",
        'T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014',
        (
            # The owners publish no checksums; many public projects pin the files with these.
            Archive(
                "val2017.zip",
                "http://images.cocodataset.org/zips/val2017.zip",
                "coco/val2017",
                r"(?:.*/)?val2017/(\d{12}\.jpg)$",
                files=5000,
                md5="442b8da7639aecaf257c1dceb8ba8c80",
                size=815585330,
            ),
            Archive(
                "annotations_trainval2017.zip",
                "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                "coco/annotations",
                r"(?:.*/)?annotations/(instances_val2017\.json)$",
                files=1,
                md5="f4bbac642086de4f52a3fdda2de5fa2c",
                size=252907541,
            ),
        ),
    ),
    Source(
        "bsds500",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        "non-commercial research and education",
        "P. Arbeláez, M. Maire, C. Fowlkes, J. Malik, "
        '"Contour Detection and Hierarchical Image Segmentation", IEEE TPAMI 33(5), 2011',
        (
            Archive(
                "BSR_bsds500.tgz",
                "https://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/"
                "BSR_bsds500.tgz",
                "bsds500",
                r"(?:.*/)?BSDS500/data/"
                r"(images/(?:train|val|test)/\d+\.jpg|groundTruth/(?:train|val|test)/\d+\.mat)$",
                files=1000,
                md5="0b17383ff0b21fe43d2f28e624203169",
                size=70763455,
            ),
        ),
    ),
    # The four series of three images repeat the names of the first pairs: left out.
    _on_github(
        "mnnejati/LytroDataset",
        "HEAD",
        "lytro",
        "research, with citation",
        'M. Nejati, S. Samavi, S. Shirani, "Multi-focus Image Fusion Using Dictionary-Based '
        'Sparse Representation", Information Fusion 25, 2015',
        members=r"(?!(?i:.*triple))(?:.*/)?(lytro-(?:0[1-9]|1\d|20)-[AB]\.(?:png|jpg))$",
        files=40,
    ),
    # Of the next four the addresses were taken from an index of these repositories, not tried.
    _on_github(
        "mnnejati/LytroDataset",
        "HEAD",
        "lytro_triples",
        "research, with citation",
        "as lytro, of which these are the four series of three images",
        members=r"(?i:.*triple).*/(lytro-0[1-4]-[ABC]\.(?:png|jpg))$",
        files=12,
        content="0029bac3bfd0b17878a8a81db627ff38c87913156f99f5261065d9cd1893c823",
    ),
    _on_github(
        "xytmhy/MMF-Net-Multi-Focus-Image-Fusion",
        "464287a75931a6a1d756411a79c0693dde0e05e5",
        "mmfnet_lytro",
        "MIT; what the paper's authors fused of the Lytro pairs",
        'H. Ma et al., "An α-Matte Boundary Defocus Model-Based Cascaded Network for Multi-focus '
        'Image Fusion", IEEE TIP 2020',
        members=r"(?:.*/)?ResultsLytro/(lytro-\d\d-Fusion\.png)$",
        files=20,
        content="9b240d3a683ddd5eb059fe3ae129410eb1c7d99b6f489a43ab711903245a54fc",
    ),
    # Our files came with MFIFB, whose present repository lacks the Lytro pairs; this one is of the
    # same author, and its images need not be the same.
    _on_github(
        "xingchenzhang/MFIF",
        "b66663c88d1f5d95af5b4c9866f44d8436798449",
        "mfifb_lytro",
        "none stated; research, with citation",
        'X. Zhang, "Multi-focus Image Fusion: A Benchmark", arXiv:2005.01116; "Deep Learning-based '
        'Multi-focus Image Fusion", IEEE TPAMI 2021',
        members=r"(?:.*/)?fused_images/lytro_(\d\d)_(BFMF|CNN|CSR|DRPL|DSIFT|ECNN|GFDF|GFF|"
        r"IFCNN|IFM|MST_SR|MWGF|NSCT_SR|QB|SESF)(\.jpg)$",
        files=300,
        path=r"\2/lytro-\1\3",
        content="a867643b85f740aad1adde9cdc855f2a5da8ec4346c8bc5bb82b2e9f34fc10a8",
    ),
    _on_github(
        "PetteriAimonen/focus-stack",
        "facc70de8c56137ff1933bcb274f929d8e758726",
        "stacks/pcb",
        "MIT",
        "P. Aimonen, focus-stack: a hand-held stack of a circuit board",
        members=r"(?:.*/)?examples/pcb/(pcb_00[1-7]\.jpg)$",
        files=7,
        content="24e9614d75e85630209286f990b29d43b4ca655bc4dcb8027bbcfb5da0e79b1f",
    ),
    Source(
        "demo",
        "https://scikit-image.org",
        "CC0 or public domain; the authors are named in skimage.data",
        "S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2014",
        (
            Archive(
                "skimage.data",
                "",  # nothing to download
                "demo",
                r"((?:astronaut|brick|camera|chelsea|coffee|grass|gravel)\.png|rocket\.jpg)$",
                files=8,
            ),
        ),
    ),
)
SOURCES: dict[str, Source] = {source.name: source for source in _SOURCES}


def describe(source: Source) -> str:
    """Name, size, page, terms and citation as four lines of text."""
    sizes = [archive.size for archive in source.archives]
    size = "size not published" if None in sizes else f"{sum(sizes) / 1e6:.0f} MB"
    if not any(archive.url for archive in source.archives):
        size = "nothing to download"
    return (
        f"{source.name} ({size})\n  page:  {source.page}\n"
        f"  terms: {source.terms}\n  cite:  {source.citation}"
    )
