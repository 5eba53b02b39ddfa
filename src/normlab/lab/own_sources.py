"""What a file of the user's consists of: itself, and what it imports from beside it."""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

OURS = Path(__file__).parent.parent
LIBRARIES = (OURS, Path(sysconfig.get_path("stdlib")))


def hash_of(path: Path, sources: set[Path]) -> str:
    """Hash of a file, and of the others in the order of their places."""
    digest = hashlib.sha256(path.read_bytes())
    for each in sorted(sources - {path}, key=lambda other: os.path.relpath(other, path.parent)):
        digest.update(each.read_bytes())
    return digest.hexdigest()


def sources_of(path: Path) -> set[Path]:
    """A file, and what it imports out of its own folder or package, at whatever depth."""
    found, left = {path}, [path]
    if "site-packages" in path.parts or any(map(path.is_relative_to, LIBRARIES)):  # its version stands for it
        return found
    while left:
        new = set(_imports(left.pop(), (root_of(path), path.parent))) - found
        found |= new
        left += new
    return found


def _imports(path: Path, roots: tuple[Path, ...]) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(root, alias.name) for root in roots for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            bases = (path.parents[node.level - 1],) if node.level else roots
            names = [node.module or "", *(".".join(filter(None, (node.module, each.name))) for each in node.names)]
            wanted = [(base, name) for base in bases for name in names]
        else:
            continue
        for base, name in wanted:
            place = base.joinpath(*name.split("."))
            yield from (each for each in (place.with_name(f"{place.name}.py"), place / "__init__.py") if each.is_file())


def root_of(path: Path) -> Path:
    """The folder that an import of the file by its full name starts from: that of its outermost package."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder
