"""How a text file's bytes become characters: a file in, the name of its encoding or a refusal out.

A byte-order mark, UTF-8 itself and the zeros of UTF-16 are told for certain. What is none of these
is taken for Windows-1252 (Latin-1) only where its letters stand as Western European ones do: a
wrong code page reads without any error and spoils every word, so a doubtful file is refused with
what the likely ones would make of it. charset-normalizer was tried and left out: it was right for
16 of 28 short tables in 12 languages, and silent about the others.

A file in which more characters are UTF-8 than bytes are not is UTF-8 with a few damaged cells. Such
bytes are carried along as lone surrogates (PEP 383): only a column that is used has to be sound.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from foldwise.errors import FoldwiseError

BLOCK_BYTES = 1 << 20
WESTERN = "cp1252"
_LIKELY = (WESTERN, "cp1250", "cp1251", "cp1254", "mac_roman", "cp850", "cp932", "gb18030")
_ENOUGH = 1 << 18  # bytes of lines that aren't ASCII, to judge by
# Signs that may stand between two letters: apostrophe, dashes, quotation marks and the like.
_NEIGHBOURS = "\u2019\u2013\u2014\u2026\xab\xbb\u201c\u201d\xad\xb7\xa0"
_ELSEWHERE = "ðþýÐÞÝšžŠŽƒ"  # what Turkish, Baltic and Central European letters turn into
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = {b"\x1f\x8b": "gzip", b"PK": "Excel or zip"}


def find_encoding(file: str) -> str:
    """Name the encoding of a text file, gzipped or not.

    Raises:
        FoldwiseError: no encoding is certain, with what the likely ones would read; or not text.
    """
    with _named(file), open_bytes(file) as stream:
        head = stream.read(4096)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if what := _NOT_TEXT.get(head[:2]):
        raise FoldwiseError(f"{file}: isn't text; it looks like {what}: unpack or convert it")
    if zeros := _zeros(head):
        return zeros
    if _is_utf8(file):
        return "utf-8"
    characters, damaged, lines = _read_through(file)
    if damaged <= characters or _cut_off(lines):
        return "utf-8"  # with damaged cells, of which reading tells
    western = _decoded(lines, WESTERN)
    if western is not None and _reads_as_western(western):
        return WESTERN
    readings = {name: text for name in _LIKELY if (text := _first_word(lines, name))}
    shown = ", ".join(f"{name} reads {text!r}" for name, text in readings.items())
    raise FoldwiseError(
        f"{file}: isn't UTF-8, and its encoding isn't certain: save it as UTF-8, or name it under "
        f"data.encoding ({shown})"
    )


def is_utf8_beyond_ascii(file: str) -> bool:
    """Say whether a file is UTF-8 with other characters than ASCII's, which doesn't come by chance.

    Raises:
        FoldwiseError: it can't be read.
    """
    with _named(file), open_bytes(file) as stream:
        ascii_only = all(block.isascii() for block in iter(lambda: stream.read(BLOCK_BYTES), b""))
    return not ascii_only and _is_utf8(file)


@contextmanager
def open_text(file: str, newline: str, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Open as text without its byte-order mark; what goes wrong while reading names the file.

    Bytes that the encoding doesn't have come out as lone surrogates, U+DC80 and up.
    """
    try:
        with _named(file), open_bytes(file) as raw:
            head = raw.read(4)
            mark = next((m for m, name in _MARKS if head.startswith(m) and name in encoding), b"")
            # "utf-16" itself reads its mark, by which it knows the order of bytes.
            raw.seek(0 if encoding in ("utf-16", "utf-32") else len(mark))
            errors = "surrogateescape"
            with io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=newline) as stream:
                yield stream
    except UnicodeError as error:
        raise FoldwiseError(
            f"{file}: isn't {encoding} throughout ({error}): correct the file, or data.encoding"
        ) from None


def open_bytes(file: str) -> gzip.GzipFile | io.BufferedReader:
    """Open a file's bytes, unpacked where its name ends in .gz."""
    return gzip.open(file, "rb") if file.lower().endswith(".gz") else open(file, "rb")


@contextmanager
def _named(file: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FoldwiseError(
            f"{file}: damaged or cut-off gzip file ({error}): copy it again"
        ) from None
    except OSError as error:
        raise FoldwiseError(f"{file}: can't be read: {error.strerror}") from None


def _zeros(head: bytes) -> str | None:
    """Tell UTF-16 without a mark by its zeros: every other byte of what is mostly ASCII."""
    even, odd = head[0::2], head[1::2]
    if odd and odd.count(0) > 0.4 * len(odd) and not even.count(0):
        return "utf-16-le"
    if odd and even.count(0) > 0.4 * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def _is_utf8(file: str) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _named(file), open_bytes(file) as stream:
        try:
            while block := stream.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _read_through(file: str) -> tuple[int, int, bytes]:
    """Count UTF-8's characters beyond ASCII, and the bytes that aren't UTF-8.

    Returns:
        Both counts, and the lines that aren't ASCII, up to _ENOUGH bytes of them.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    characters, damaged, kept = 0, 0, bytearray()
    with _named(file), open_bytes(file) as stream:
        while True:
            block = stream.read(BLOCK_BYTES)
            text = decoder.decode(block, final=not block)
            if not text.isascii():
                damaged += len(re.findall("[\udc80-\udcff]", text))
                characters += len(re.findall("[^\0-\x7f\udc80-\udcff]", text))
            if not block:
                return characters, damaged, bytes(kept[:_ENOUGH])
            if len(kept) < _ENOUGH and not block.isascii():
                kept += b"".join(line for line in block.splitlines(True) if not line.isascii())


def _cut_off(lines: bytes) -> bool:
    """Say whether the only damage is a character that the file's end cuts off."""
    try:
        lines.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _reads_as_western(text: str) -> bool:
    """Say whether letters beyond ASCII stand where Western European ones do.

    They come one at a time, small ones inside words; signs stand outside them. Other alphabets
    come out as runs of accented letters, other code pages as signs and capitals inside words.
    """
    beyond = [at for at, char in enumerate(text) if char > "\x7f"]
    padded = f" {text} "
    odd = alone = 0
    for at in beyond:
        before, char, after = padded[at], text[at], padded[at + 2]
        within = before.isalpha() and after.isalpha()
        if char.isalpha() and char not in "ºª":
            alone += before <= "\x7f" and after <= "\x7f"
            odd += char.isupper() and before.islower()
        else:
            odd += (within and char not in _NEIGHBOURS) or char in "\x7f¤"
            alone += 1
    elsewhere = sum(text[at] in _ELSEWHERE for at in beyond)
    hungarian = "õ" in text and any(char in text for char in "öü")
    czech = "ø" in text and "ì" in text
    few, most = len(beyond) / 50, 0.3 * len(beyond)
    return odd + elsewhere <= few and alone >= most and not hungarian and not czech


def _first_word(raw: bytes, encoding: str) -> str | None:
    text = raw.decode(encoding, "replace")
    found = re.search(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*", text)
    word = found[0][:20] if found else ""
    return word if word and "\ufffd" not in word else None
