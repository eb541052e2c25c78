"""The architecture, enforced: imports point one way, protocols touch no system."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"

# A layer may import from itself and from those before it.
LAYERS = [
    "errors",
    "resources",
    "clock",
    "config",
    "events",
    "protocols",
    "db",
    "policies",
    "servers",
    "stack",
    "faults",
    "load",
    "bench",
    "report",
    "scenario",
    "pytest_plugin",
    "runner",
    "cli",
]
SYSTEM_MODULES = {"asyncio", "os", "random", "socket", "time"}


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports_of(path: Path, *, types: bool = True) -> list[tuple[int, str]]:
    """Return (line, module) of each import; a package's part counts as itself.

    Without ``types`` those below ``if TYPE_CHECKING`` are left out: they name types
    and import nothing when the module is loaded.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set() if types else nodes_for_types(tree)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [
                (node.lineno, part if is_module(part) else node.module)
                for part in (f"{node.module}.{alias.name}" for alias in node.names)
            ]
    return found


def nodes_for_types(tree: ast.Module) -> set[ast.AST]:
    return {
        below
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for below in ast.walk(statement)
    }


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "_files" not in p.parts)


def name_of(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return ".".join(relative.parts).removesuffix(".__init__")


def test_every_module_belongs_to_a_layer() -> None:
    known = {*LAYERS, ""}
    strangers = [name_of(p) for p in modules() if layer_of(name_of(p)) not in known]
    assert strangers == []


def test_imports_point_only_upwards() -> None:
    wrong = []
    for path in modules():
        own = layer_of(name_of(path))
        if own not in LAYERS:
            continue
        for line, target in imports_of(path):
            if not target.startswith("harness."):
                continue
            other = layer_of(target)
            if other in LAYERS and LAYERS.index(other) > LAYERS.index(own):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} -> {other}")
    assert wrong == []


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "protocols").rglob("*.py")), ids=lambda p: p.stem
)
def test_protocols_import_no_system_module(path: Path) -> None:
    used = {target.split(".")[0] for _, target in imports_of(path)}
    assert used & SYSTEM_MODULES == set()


def test_layers_have_no_import_cycles() -> None:
    graph = {
        name_of(path): {
            target
            for _, target in imports_of(path, types=False)
            if target.startswith("harness.")
        }
        for path in modules()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for target in graph.get(module, ()):
            visit(target, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())
