"""Files that belong together, from a folder or straight from their archive."""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from normlab.lab.data.files import faulty, read_bytes, unpacked


@dataclass(frozen=True)
class Group:
    """The files of one version of a data set, and the folder that holds them in the original archive."""

    folder: str
    files: tuple[str, ...]


def read_group(path: Path, groups: Sequence[Group], origin: str) -> tuple[Group, dict[Path, bytes]]:
    """The group that is there as a whole, the first of several, and the content of each of its files.

    Args:
        path: the folder of the files, its parent, or their tar archive. The archive is read in memory: the paths in
            it are compared with those of the groups and never used.
        groups: the versions that will do.
        origin: whose files they are, for the next step of the error.

    Raises:
        DataError: there is nothing under that path, or not all of it, or it cannot be read.
    """
    group, contents = _in_folder(path, groups) if path.is_dir() else _in_archive(path, groups)
    missing = [name for name in group.files if name not in {file.name for file in contents}]
    if missing:
        if not path.exists():
            got = "no such folder or file"
        else:
            got = f"no {', '.join(missing)}" if contents else "none of them"
        rule = f"there must be {' or '.join(_listed(each) for each in groups)}, in a folder or a tar archive."
        raise faulty(path, rule, got, f"give the path of the original files of {origin}.")
    return group, contents


def _listed(group: Group) -> str:
    return f"{', '.join(group.files)} ({group.folder})"


def _in_folder(path: Path, groups: Sequence[Group]) -> tuple[Group, dict[Path, bytes]]:
    there = [
        (group, [place / name for name in group.files if (place / name).is_file()])
        for group in groups
        for place in (path, path / group.folder)
    ]
    group, files = max(there, key=lambda each: len(each[1]) / len(each[0].files))
    return group, {file: read_bytes(file) for file in files}


def _in_archive(path: Path, groups: Sequence[Group]) -> tuple[Group, dict[Path, bytes]]:
    contents = _members(path, {f"{group.folder}/{name}" for group in groups for name in group.files})
    there = [(group, [f"{group.folder}/{name}" for name in group.files]) for group in groups]
    there = [(group, [name for name in names if name in contents]) for group, names in there]
    group, names = max(there, key=lambda each: len(each[1]) / len(each[0].files))
    return group, {path / name: contents[name] for name in names}


def _members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    if not path.exists():
        return {}
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked(path)), mode="r:") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name in wanted and member.isfile() else None
                if stream is not None:
                    contents[member.name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise faulty(path, "the file must be a whole tar archive, as .gz or not.", str(error)) from None
    return contents
