"""Tables that benchmarks keep in a Markdown file, each between two markers of its own."""

from pathlib import Path

from audiolm_jax.files import replace_file

END = "<!-- end of table -->"


def _parts(path: Path, name: str) -> tuple[str, str]:
    """What stands before a table, its first marker included, and after it, from its second marker on."""
    before, begin, rest = path.read_text().partition(f"<!-- table: benchmarks/{name} -->")
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has not the markers <!-- table: benchmarks/{name} --> and {END}")
    return before + begin, end + after


def check_markers(path: Path, name: str) -> None:
    """Ends the program in one line where a file has no place for the table; to be asked before anything is measured."""
    if not path.is_file():
        raise SystemExit(f"{path} is no file; give a Markdown file with the markers of the table")
    _parts(path, name)


def write_table(path: Path, name: str, table: str) -> None:
    """Puts a table in the place of the one in a Markdown file.

    Args:
        path: the file.
        name: of the table: the file of the benchmark, and behind it which of its tables where it has several.
        table: its lines, the last one with its line break.
    """
    before, after = _parts(path, name)
    replace_file(path, f"{before}\n{table}{after}".encode())
