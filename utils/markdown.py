"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A line for the head, a rule, a line for each row; ends with a line break."""
    lines = []
    for cells in (head, ["---"] * len(head), *rows):
        lines.append(" | ".join(cell.replace("|", r"\|") for cell in cells))
    return "".join(f"| {line} |\n" for line in lines)
