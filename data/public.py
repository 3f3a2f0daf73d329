"""The public image sources that :mod:`data.prepare` knows: addresses, checksums, terms, layout."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file to download and the folder it becomes.

    ``members`` is the layout: it picks the members of the archive that are used, and its first
    group is their path inside ``folder``. ``files`` is how many there are. ``md5`` and ``size``
    (bytes) are None where nobody has published them.
    """

    name: str
    url: str
    folder: str
    members: re.Pattern[str]
    files: int
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Source:
    """A public data set: where it comes from and on which terms."""

    name: str
    page: str
    terms: str
    citation: str
    archives: tuple[Archive, ...]


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
                re.compile(r"(?:.*/)?val2017/(\d{12}\.jpg)$"),
                files=5000,
                md5="442b8da7639aecaf257c1dceb8ba8c80",
                size=815585330,
            ),
            Archive(
                "annotations_trainval2017.zip",
                "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                "coco/annotations",
                re.compile(r"(?:.*/)?annotations/(instances_val2017\.json)$"),
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
                re.compile(
                    r"(?:.*/)?BSDS500/data/"
                    r"(images/(?:train|val|test)/\d+\.jpg|groundTruth/(?:train|val|test)/\d+\.mat)$"
                ),
                files=1000,
                md5="0b17383ff0b21fe43d2f28e624203169",
                size=70763455,
            ),
        ),
    ),
    Source(
        "lytro",
        "https://github.com/mnnejati/LytroDataset",
        "research, with citation",
        'M. Nejati, S. Samavi, S. Shirani, "Multi-focus Image Fusion Using Dictionary-Based '
        'Sparse Representation", Information Fusion 25, 2015',
        (
            # The authors' own repository; GitHub packs it on demand, so no checksum can hold.
            # Its four series of three images repeat the names of the first pairs: left out.
            Archive(
                "LytroDataset.zip",
                "https://github.com/mnnejati/LytroDataset/archive/HEAD.zip",
                "lytro",
                re.compile(
                    r"(?!(?i:.*triple))(?:.*/)?"
                    r"(lytro-(?:0[1-9]|1\d|20)-[AB]\.(?:png|jpg))$"
                ),
                files=40,
            ),
        ),
    ),
)
SOURCES: dict[str, Source] = {source.name: source for source in _SOURCES}


def describe(source: Source) -> str:
    """Name, size, page, terms and citation as four lines of text."""
    sizes = [archive.size for archive in source.archives]
    size = "size not published" if None in sizes else f"{sum(sizes) / 1e6:.0f} MB"
    return (
        f"{source.name} ({size})\n  page:  {source.page}\n"
        f"  terms: {source.terms}\n  cite:  {source.citation}"
    )
