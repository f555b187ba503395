"""A table that a benchmark keeps in a Markdown file, between two markers."""

from pathlib import Path

from audiolm_jax.files import replace_file

END = "<!-- end of table -->"


def _parts(path: Path, benchmark: str) -> tuple[str, str]:
    """What stands before the table, its first marker included, and after it, from the second marker on."""
    text, begin = path.read_text(), f"<!-- table: benchmarks/{benchmark} -->"
    if begin not in text or END not in text:
        raise SystemExit(f"{path} has not the markers {begin} and {END}")
    return text.split(begin)[0] + begin, END + text.split(END)[1]


def check_markers(path: Path, benchmark: str) -> None:
    """Ends the program in one line where a file has no place for the table; to be asked before anything is measured."""
    _parts(path, benchmark)


def write_table(path: Path, benchmark: str, table: str) -> None:
    """Puts the table of a benchmark, named as its file, in the place of the one in a Markdown file."""
    before, after = _parts(path, benchmark)
    replace_file(path, f"{before}\n{table}{after}".encode())
