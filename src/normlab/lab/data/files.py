"""Reading data files, and the error that says what is wrong with one."""

import gzip
import zlib
from pathlib import Path

from normlab import errors

GZIP = b"\x1f\x8b"
RESTORE = "put the original file there again."


def faulty(file: Path, rule: str, got: str, fix: str = RESTORE) -> errors.DataError:
    """Names the file, the rule that it breaks, what was found in it, and the next step."""
    return errors.DataError(errors.message(str(file), errors.Problem(rule, got, fix)))


def read_bytes(file: Path) -> bytes:
    """What the file holds.

    Raises:
        DataError: the disk, or the rights of the file, refuse.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        raise faulty(file, "the file cannot be read.", got, "check its rights and the disk.") from None


def unpacked(file: Path) -> bytes:
    """What the file holds, compressed with gzip or not: its first bytes tell, not its suffix.

    Raises:
        DataError: it cannot be read, or the gzip file is not whole.
    """
    content = read_bytes(file)
    if not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise faulty(file, "the gzip file is cut off or damaged.", str(error)) from None
