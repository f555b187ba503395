"""Dataclasses that hold arrays do not compare them field by field: NumPy gives no single answer to that."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "audiolm_jax"


def compares_by_fields(node: ast.ClassDef) -> bool:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any("dataclass" in text and "struct" not in text and "eq=False" not in text for text in decorators)


def holds_an_array(node: ast.ClassDef) -> bool:
    fields = [ast.unparse(field.annotation) for field in node.body if isinstance(field, ast.AnnAssign)]
    return any("np.ndarray" in text and "Callable" not in text for text in fields)


def test_dataclasses_with_arrays_do_not_compare_them():
    found = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and compares_by_fields(node) and holds_an_array(node)
    ]
    assert found == [], "give them eq=False, or an __eq__ of their own"
