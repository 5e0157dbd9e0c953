"""Lines of a text file with their numbers: the one way this room reads anything."""

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from qpeft_rerank.errors import InputError

#: What to say of a line with one: trec_eval would end an id there.
ZERO_BYTE = "a zero byte; the file is damaged, fetch or make it again"
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
# How files begin that hold no UTF-8, and what they are.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PACKERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


def display_name(path: str) -> str:
    """Return the name that messages use for ``path``: itself, or ``<stdin>`` for ``-``."""
    return "<stdin>" if path == "-" else path


def read_lines(path: str, texts: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of a UTF-8 file, blank lines too.

    ``-`` is standard input. Gzip is recognised by its first bytes, whatever the name; a byte order
    mark is dropped, of joined files every one, and CRLF is read as LF. :class:`InputError` for a file that
    cannot be opened, for damaged gzip, for bytes that are no UTF-8, and for a carriage return within a line, as
    where each line ends in one alone; not in JSON, to which it is white space.

    :param texts: its lines hold long texts, of others: only in the first one is it refused.
    """
    name = display_name(path)
    number, first, json = 0, b"", None
    stream = _open(path)
    try:
        for number, raw in enumerate(_plain(stream), 1):
            # Where cat has joined files, there may be one in the middle.
            raw = raw.removeprefix(_BOM)
            if number == 1:
                first = raw
            # Decoded line by line, so that a bad byte is reported with its line.
            line = raw.decode().rstrip("\r\n")
            if json is None and (begin := line.lstrip()[:1]):
                json = begin in "{["
            if "\r" in line and not json and not (texts and number > 1):
                raise InputError(
                    f"{name}:{number}: a carriage return within the line; if it ends lines, convert the file "
                    "(tr '\\r' '\\n'), else write a space for it"
                )
            yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"{name}:{number}: byte {error.start + 1} is not UTF-8; {_remedy(first)}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{name}:{number + 1}: damaged gzip data; fetch the file again") from None
    except OSError as error:
        raise InputError(f"{name}:{number + 1}: reading failed ({error.strerror}); try again") from None
    finally:
        if path == "-":
            stream.detach()  # standard input is not ours to close
        else:
            stream.close()


def check_there(path: str) -> None:
    """Refuse a file that :func:`read_lines` could not open; a stream is left as it is."""
    if path != "-" and (os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)):
        _open(path).close()


def _remedy(first: bytes) -> str:
    """What makes UTF-8 of a file that begins with this line and is none."""
    if packer := next((name for magic, name in _PACKERS.items() if first.startswith(magic)), None):
        return f"it seems to be packed by {packer}: unpack it, or pack it by gzip"
    known = "UTF-16" if first.startswith(_UTF_16) else "LATIN1"
    # Where -f is left out, iconv takes a file for what the locale has, which is UTF-8 almost everywhere.
    return f"convert the file (iconv -f {known} -t UTF-8{'' if known == 'UTF-16' else ', or what else it is in'})"


def _open(path: str) -> io.BufferedReader:
    """Open ``path`` in a way that allows a look at the first bytes, on pipes too."""
    if path != "-":
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path") from None
        except IsADirectoryError:
            raise InputError(f"{path}: is a directory; name a file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if sys.stdin is None:
        raise InputError("stdin is closed; name a file instead of -")
    # Only its read methods are used, which every binary stream has.
    return io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))


def _plain(stream: io.BufferedReader) -> BinaryIO:
    """Return ``stream``, decompressed when it starts as gzip does."""
    if stream.peek(2)[:2] == _GZIP_MAGIC:
        # The extra buffer makes iteration over lines about twice as fast.
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stream), 1 << 16))
    return stream


def is_text(text: str) -> bool:
    """Tell whether ``text`` is Unicode text: JSON escapes can make a string that no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unquote(cell: str) -> str:
    """Undo CSV quoting; a cell that merely begins and ends with a quote is left as it is."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell
