"""The layout of the package: which room may import which, no cycles, and private names in ``compat.py`` files only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jobpush.webhooks.kinds import KINDS

PACKAGE = Path(__file__).parents[1] / "jobpush"

VOCABULARY = {"config", "errors", "events", "channels", "lifecycle", "rare_log", "signing", "tokens"}
#: What each room may import beside itself; ``None``: anything.
ALLOWED: dict[str, set[str] | None] = {
    "vocabulary": set(),
    "protocol": {"vocabulary"},
    "store": {"vocabulary"},
    "reporting": {"vocabulary", "store"},
    "queues": {"vocabulary", "store", "reporting"},
    "webhooks": {"vocabulary", "store"},
    "gateway": {"vocabulary", "protocol", "store"},
    "web": {"vocabulary", "protocol", "store", "gateway"},
    "django": {"vocabulary", "protocol", "store", "gateway", "web", "entry"},
    "fastapi": {"vocabulary", "protocol", "store", "gateway", "web", "entry"},
    "processes": {"vocabulary"},
    "static": set(),
    "entry": None,
    "cli": None,
}
#: The one file of the webhooks that registers a Celery task, and the lazy names of ``jobpush`` and ``jobpush.gateway``.
EXCEPTIONS = {
    ("webhooks.celery_delivery", "queues"),
    ("gateway", "web"),
}
#: Distributions whose private names only a ``compat.py`` may use.
FOREIGN = {
    "billiard", "celery", "django", "fastapi", "flask", "flask_cors", "flask_sock", "gunicorn", "hiredis", "kombu",
    "redis", "simple_websocket", "starlette", "werkzeug", "wsproto",
}  # fmt: skip


def module_name(file: Path) -> str:
    """Return the dotted name below ``jobpush``; the package itself is ``""``."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in PACKAGE.rglob("*.py")}


def imports(module: str) -> Iterator[str]:
    """Yield the modules of the package that ``module`` imports anywhere: in functions and ``TYPE_CHECKING`` too."""
    file = MODULES[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part]
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "jobpush":
                base = []
            else:
                continue
            inner = (node.module or "").removeprefix("jobpush").strip(".") if not node.level else node.module or ""
            stem = ".".join([*base, *filter(None, inner.split("."))])
            names = [f"{stem}.{alias.name}".strip(".") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("jobpush").strip(".") for a in node.names if a.name.split(".")[0] == "jobpush"]
        for name in names:
            yield name if name in MODULES else name.rpartition(".")[0]


def room(module: str) -> str:
    """Return the room of a module."""
    first = module.split(".")[0]
    if first in VOCABULARY:
        return "vocabulary"
    return first if first in ALLOWED else "entry"


@cache
def graph() -> dict[str, set[str]]:
    """Return the imports of each module."""
    return {module: set(imports(module)) - {module} for module in MODULES}


def test_places_of_changes_in_the_contributing_page_exist() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    table = page.split("### Where to make a change")[1].split("\n\n")[2]
    places = re.findall(r"`([\w./-]+(?:/|\.\w+))`", table)

    missing = [place for place in places if not any((root / place).exists() for root in (PACKAGE, PACKAGE.parent))]

    assert len(places) > 20
    assert missing == []


def test_places_of_webhook_kinds_exist() -> None:
    places = {kind: re.search(r"store/[\w./]+\b", text) for kind, text in KINDS.items()}

    unmade = [
        kind
        for kind, place in places.items()
        if place is None or kind.removeprefix("user_") not in (PACKAGE / place[0]).read_text()
    ]

    assert unmade == []


def test_rooms_import_only_what_is_below_them() -> None:
    forbidden = [
        f"{module or 'jobpush'} imports {target or 'jobpush'}"
        for module, targets in graph().items()
        for target in targets
        for here, there in [(room(module), room(target))]
        if here != there
        and (allowed := ALLOWED[here]) is not None
        and there not in allowed
        and (module, there) not in EXCEPTIONS
    ]

    assert forbidden == []


def test_imports_have_no_cycle() -> None:
    assert cycles({module: targets for module, targets in graph().items() if module not in ("", "gateway")}) == []


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module. Source: Tarjan 1972."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in graph:
                continue
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_private_names_of_other_packages_are_used_in_compat_files_only() -> None:
    trees = {module: ast.parse(file.read_text()) for module, file in MODULES.items() if file.name != "compat.py"}
    ours = {name for tree in trees.values() for name in defined_names(tree)}

    used = [f"{module}: {name}" for module, tree in trees.items() for name in foreign_private_names(tree, ours)]

    assert used == []


def test_private_name_of_another_package_is_found() -> None:
    tree = ast.parse("from celery.canvas import _chain\nthing._sock = thing._ours\nself._ours = 1")

    assert foreign_private_names(tree, defined_names(tree)) == ["celery.canvas._chain", "thing._sock"]


def defined_names(tree: ast.AST) -> set[str]:
    """Return the names that a module defines: functions, classes, variables, and attributes of ``self`` and ``cls``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # slots, and setattr
    return names


def foreign_private_names(tree: ast.AST, ours: set[str]) -> list[str]:
    """Return the private names that a module uses and our package does not define."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in FOREIGN:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [f"{node.module}.{name}" for name in names if is_private(name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours:
            found.append(ast.unparse(node))
    return found


def is_private(name: str) -> bool:
    """Whether a name has one leading underscore."""
    return name.startswith("_") and not name.startswith("__")


def test_reporting_and_gateway_import_no_queue() -> None:
    for module, file in MODULES.items():
        if room(module) in ("reporting", "gateway", "protocol", "store", "vocabulary"):
            tops = {
                (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
                for alias in node.names
            }
            assert not tops & {"celery", "kombu", "billiard"}, module
            if room(module) != "reporting":
                assert not tops & {"flask", "werkzeug", "gunicorn", "django", "fastapi"}, module
