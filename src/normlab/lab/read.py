"""Reading the files of a run; what is damaged is named by its file and line."""

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from normlab import errors
from normlab.lab.config import Frozen, validation_problems
from normlab.lab.record import STATUS, Status

Config = TypeVar("Config", bound=Frozen)
STATUS_FILE = TypeAdapter(Status)


def read_config(path: Path, kind: type[Config]) -> Config:
    """A TOML file as a config.

    Raises:
        RecordError: the file is missing or is not such a config.
    """
    try:
        return kind.from_toml(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise damaged(path, str(error)) from None
    except ValidationError as error:
        raise errors.RecordError(errors.message(str(path), *validation_problems(error))) from None


def read_status(folder: Path) -> Status:
    """Where the run in this folder stands.

    Raises:
        RecordError: the file is missing or damaged.
    """
    path = folder / STATUS
    try:
        return STATUS_FILE.validate_json(_text(path))
    except ValidationError as error:
        raise damaged(path, _first(error)) from None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        RecordError: the file is missing or damaged.
    """
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise damaged(path, str(error)) from None
    if not isinstance(found, dict):
        raise damaged(path, f"an object was to be here, not {type(found).__name__}")
    return found


def read_lines(path: Path, form: TypeAdapter[Any], finished: bool) -> list[Any]:
    """The records of a file of lines.

    Args:
        path: the file.
        form: what every line must be.
        finished: whether the run ended by itself; if not, a last line that is not whole is left out.

    Raises:
        RecordError: the file is missing or damaged; the text names the line.
    """
    lines = _bytes(path).split(b"\n")
    if not finished or lines[-1] == b"":
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(form.validate_json(line))
        except ValidationError as error:
            raise damaged(path, f"line {number}: {_first(error)}") from None
    return records


def damaged(path: Path, what: str) -> errors.RecordError:
    """The error that says what is wrong with a file."""
    fix = "restore it, or run again: `normlab compare --resume` keeps the other runs."
    return errors.RecordError(errors.message(str(path), errors.Problem("the file is damaged.", got=what, fix=fix)))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise damaged(path, str(error)) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        problem = errors.Problem(f"{path.name} is missing.", fix="give a folder that `normlab compare` wrote.")
        raise errors.RecordError(errors.message(str(path.parent), problem)) from None
    except OSError as error:
        raise damaged(path, str(error)) from None
