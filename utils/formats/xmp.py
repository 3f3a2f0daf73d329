"""XMP: choose what the result keeps of a photograph's packet, which is what is said of the picture:
title, keywords, author, rights, place, rating. The rest describes the file, or how it was
developed, which a program would do again with the result."""

import xml.etree.ElementTree as ET

LARGEST = 1_000_000  # bytes that are read
LARGEST_KEPT = 65_000  # bytes, as many as JPEG holds
META = "adobe:ns:meta/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# By prefix: namespaces of which all is kept but these, or only these, as XMP and IPTC define them.
ALL_BUT = {
    "dc": ("http://purl.org/dc/elements/1.1/", "format"),
    "xmpRights": ("http://ns.adobe.com/xap/1.0/rights/", ""),
    "lr": ("http://ns.adobe.com/lightroom/1.0/", ""),
    "Iptc4xmpCore": ("http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", ""),
    "Iptc4xmpExt": ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", ""),
    "plus": ("http://ns.useplus.org/ldf/xmp/1.0/", ""),
}
ONLY = {
    "xmp": ("http://ns.adobe.com/xap/1.0/", "Rating Label"),
    "exif": (
        "http://ns.adobe.com/exif/1.0/",
        "GPSVersionID GPSLatitude GPSLongitude GPSAltitude GPSAltitudeRef GPSMapDatum "
        "GPSImgDirection GPSImgDirectionRef GPSTimeStamp",
    ),
    "photoshop": (
        "http://ns.adobe.com/photoshop/1.0/",
        "AuthorsPosition CaptionWriter Category City Country Credit DateCreated Headline "
        "Instructions Source State SupplementalCategories TransmissionReference Urgency",
    ),
}
PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="w"?>'

for _prefix, _space in (("x", META), ("rdf", RDF)):
    ET.register_namespace(_prefix, _space)
for _prefix, (_space, _) in (ALL_BUT | ONLY).items():
    ET.register_namespace(_prefix, _space)


def keep(packet: object) -> bytes | None:
    """The packet of a result, from what a file has for one: bytes, or nothing, or in a broken file
    anything; None if nothing is left. A broken one counts as none, as does one with a document
    type, whose entities could grow without bound."""
    if not isinstance(packet, bytes) or len(packet) > LARGEST or b"<!DOCTYPE" in packet:
        return None
    kept = ET.Element(f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""})
    try:
        packet = ET.fromstring(packet.strip(b"\0 \r\n"))
        for description in next(packet.iter(f"{{{RDF}}}RDF"), ()):
            # A property that is a plain text may be an attribute.
            kept.attrib.update({k: v for k, v in description.attrib.items() if _is_kept(k)})
            kept.extend(child for child in description if _is_kept(child.tag))
        if len(kept.attrib) == 1 and not len(kept):
            return None
        root = ET.Element(f"{{{META}}}xmpmeta")
        ET.SubElement(root, f"{{{RDF}}}RDF").append(kept)
        result = PACKET.format(ET.tostring(root, "unicode")).encode()
    except (ET.ParseError, ValueError, LookupError, RecursionError):
        return None
    return result if len(result) <= LARGEST_KEPT else None


def _is_kept(name: str) -> bool:
    """Whether a property is kept, by its name ``{namespace}property``."""
    space, _, name = name[1:].partition("}")
    return any(space == s and name != but for s, but in ALL_BUT.values()) or any(
        space == s and name in only.split() for s, only in ONLY.values()
    )
