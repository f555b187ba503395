"""What the documents show is what the program does: the snippet runs, commands parse, versions and figures agree."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from audiolm_jax.audio import read_audio
from audiolm_jax.cli import command_line

ROOT = Path(__file__).parents[1]
DOCS = sorted([ROOT / "README.md", ROOT / "launch" / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(path, language):
    """The texts of the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def pinned(extra):
    """{package: version} of the requirements of an extra in setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    extras = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "EXTRAS"
    )
    return dict(re.sub(r"\[.*?\]", "", requirement).split("==") for requirement in extras[extra])


def table_rows(text):
    """The cells of every row of every Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_the_readme_s_python_runs_as_it_stands_and_saves_what_it_makes(tmp_path):
    (snippet,) = blocks(ROOT / "README.md", "python")
    # The repository as the snippet sees it, without what it writes.
    (tmp_path / "audiolm_jax").symlink_to(ROOT / "audiolm_jax")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=environment, check=True, timeout=900)
    (made,) = (tmp_path / "out").iterdir()
    waveform = read_audio(made)
    assert waveform.seconds == pytest.approx(7.0, abs=0.01) and abs(waveform.samples).max() > 0.01


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_the_documents_have_arguments_that_exist(path, monkeypatch):
    monkeypatch.setattr("audiolm_jax.cli.arguments.find_bundle", lambda name: name)
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("audiolm ") or "..." in line:
                continue
            # What a reader fills in: numbers, and names of folders.
            words = ["3" if re.fullmatch(r"[NKPS]", word) else word for word in shlex.split(line, comments=True)[1:]]
            try:
                _, beyond = command_line.parser().parse_known_args(words)
            except SystemExit as stopped:
                assert stopped.code == 0, line
                continue
            assert not beyond or words[0] == "tokenize", line


def test_tables_of_tpus_are_of_the_compiler_that_is_installed():
    pins = pinned("check")
    assert set(pins) == {"jax", "libtpu"}
    tpu = (ROOT / "docs" / "tpu.md").read_text()
    versions = dict(pair.split() for pair in re.search(r"^Versions: (.*)\.$", tpu, re.MULTILINE).group(1).split(", "))
    assert {name: versions[name] for name in pins} == pins
    for name in ("devices.md", "scale.md"):
        assert f"libtpu {pins['libtpu']}" in (ROOT / "docs" / name).read_text()


def test_both_pages_tell_the_same_memory_and_time_of_each_slice():
    def tpu_rows(table):
        text = (ROOT / "docs" / "tpu.md").read_text().partition(f"<!-- table: benchmarks/{table} -->")[2]
        return [row for row in table_rows(text.partition("<!-- end")[0]) if row[0] not in ("experiment", "---")]

    gibibytes = {(row[0], row[1]): row[4].split(" / ")[0] for row in tpu_rows("tpu_table.py")}
    times_ms = {(row[0], row[1]): float(row[4]) for row in tpu_rows("tpu_table.py roofline")}
    assert gibibytes.keys() == times_ms.keys()
    scale = (ROOT / "docs" / "scale.md").read_text().partition("| by the roofline |")[2].partition("\n\n")[0]
    rows = [row for row in table_rows(scale) if ":" in row[1] and not row[0].startswith("---")]
    assert len(rows) > 20
    for row in rows:
        assert row[2] == gibibytes[row[0], row[1]], row
        assert float(row[3]) == pytest.approx(times_ms[row[0], row[1]] / 1000, rel=0.006), row
