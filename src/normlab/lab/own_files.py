"""The files that the user's functions are in: imported as `python FILE.py` would, and hashed with their neighbours."""

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from normlab.lab.own_sources import OURS, hash_of, root_of, sources_of

_folders: set[str] = set()  # those that files of the user's were imported from
_versions: dict[Path, str] = {}  # the hash of each file when it was imported


def file_hash(name: str) -> str:
    """Hash of the file that a function of the user's is in and of those next to it that it imports; else empty."""
    path = own_file(name.rpartition(":")[0])
    return hash_of(path, sources_of(path)) if path is not None and path.exists() else ""


def own_file(where: str) -> Path | None:
    """The file behind `FILE.py` or `MODULE`; None if there is none."""
    if where.endswith(".py"):
        return Path(where).resolve()
    try:
        with neighbours(where):
            spec = importlib.util.find_spec(where)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def imported(where: str) -> ModuleType:
    """The module of `FILE.py` or `MODULE`; a file is imported once, by a name that no other file has, and again when
    it has changed.

    Raises:
        Exception: whatever importing it raises.
    """
    path = own_file(where)
    if path is not None:
        _forget_if_changed(path)
    with neighbours(where):
        if path is None or not where.endswith(".py"):
            return importlib.import_module(where)
        inside = _dotted(path)
        if "." in inside and _is_free(inside.partition(".")[0], root_of(path)):
            return importlib.import_module(inside)
        name = _alone(path)
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot import {where}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


@contextlib.contextmanager
def neighbours(where: str) -> Iterator[None]:
    """Inside, what lies next to the file comes first in an import; afterwards last, so that it hides nothing of ours.

    A neighbour of another file of the user's that has the name of one here is forgotten, and imported from here.
    """
    path = Path(where).resolve()
    folders = list(dict.fromkeys(map(str, (root_of(path), path.parent) if where.endswith(".py") else (Path.cwd(),))))
    for name in [each for each, module in sys.modules.items() if _owner(module, folders) not in (None, *folders)]:
        if any(_has(folder, name) for folder in folders):
            del sys.modules[name]
    _folders.update(folders)
    importlib.invalidate_caches()  # a file written a moment ago
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in set(folders).intersection(sys.path):  # their code may have changed it too
            sys.path.remove(folder)
        sys.path += [folder for folder in folders if folder not in sys.path]


def _forget_if_changed(path: Path) -> None:
    sources = sources_of(path)
    now = hash_of(path, sources)
    if _versions.setdefault(path, now) != now:
        _versions[path] = now
        files = set(map(str, sources))
        for name, module in list(sys.modules.items()):
            if name != "__main__" and getattr(module, "__dict__", {}).get("__file__") in files:
                del sys.modules[name]


def _alone(path: Path) -> str:
    return f"normlab_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(root_of(path)).with_suffix("").parts)


def _is_free(top: str, root: Path) -> bool:
    """Whether the name of this package is not that of another one, which has been imported already."""
    there = getattr(sys.modules.get(top), "__path__", [str(root / top)])
    return str(root / top) in map(str, there)


def _owner(module: ModuleType, folders: list[str]) -> str | None:
    """The folder of the user's that a module was imported from."""
    if not _folders - set(folders):
        return None
    said = getattr(module, "__dict__", {})  # asked for by name, some modules make up whatever they are asked for
    path = Path(said.get("__file__") or next(iter(said.get("__path__") or ()), "/"))
    if "site-packages" in path.parts or path.is_relative_to(OURS):
        return None
    return next((str(each) for each in path.parents if str(each) in _folders or str(each) in folders), None)


def _has(folder: str, name: str) -> bool:
    place = Path(folder).joinpath(*name.split("."))
    return place.with_name(f"{place.name}.py").is_file() or place.is_dir()
