"""What may happen to a file's bytes and to a text, by a generator of random numbers."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

HEADER = 1024
"""Bytes at a file's start of which more changes are made than of others."""
TEXTS = (".yaml", ".json", ".jsonl", ".md", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
TOKENS = (
    "", "null", "true", "-1", "0", "1e999", ".nan", "-.inf", "1e308", "9" * 400, str(2**31), str(2**63), "1.5", "[]",
    "{}", "[" * 300, "{a: " * 100, "\0", "\ufffe", "&a [*a]", "!!python/name:os.system", "x" * 5000, "2020-99-99", "\t",
    "é", "rain", "<f4", "|O", "bytes", "../../x", "/dev/zero", '"', "'", "float16", "[1, 2]", "- a", "? b", "%",
)  # fmt: skip
HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**31 + 1, 2**62, 2**63, 2**64 - 1)


def flipped(old: bytes, rng: random.Random) -> bytes:
    new = bytearray(old)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        new[_place(old, rng)] ^= 1 << rng.randrange(8)
    return bytes(new)


def set_(old: bytes, rng: random.Random) -> bytes:
    new = bytearray(old)
    for _ in range(rng.choice((1, 2, 8))):
        new[_place(old, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(new)


def numbered(old: bytes, rng: random.Random) -> bytes:
    """A huge or an odd number in place of 2, 4 or 8 bytes, in either order."""
    code = rng.choice("HIIQ")
    size = struct.calcsize(code)
    number = rng.choice(HUGE) % 256**size
    at = _place(old, rng) // 2 * 2
    return old[:at] + struct.pack(rng.choice("<>") + code, number) + old[at + size :]


def cut(old: bytes, rng: random.Random) -> bytes:
    return old[: rng.choice((0, 1, 4, 7, 8, 9, rng.randrange(len(old)), rng.randrange(len(old)), len(old) - 1))]


def deleted(old: bytes, rng: random.Random) -> bytes:
    at, size = _place(old, rng), _size(rng)
    return old[:at] + old[at + size :]


def doubled(old: bytes, rng: random.Random) -> bytes:
    at, size = _place(old, rng), _size(rng)
    return old[: at + size] + old[at:]


def zeroed(old: bytes, rng: random.Random) -> bytes:
    at, size = _place(old, rng), _size(rng)
    return old[:at] + bytes(len(old[at : at + size])) + old[at + size :]


def random_(old: bytes, rng: random.Random) -> bytes:
    at, size = _place(old, rng), _size(rng)
    return old[:at] + rng.randbytes(len(old[at : at + size])) + old[at + size :]


def swapped(old: bytes, rng: random.Random) -> bytes:
    size = _size(rng)
    a, b = sorted((_place(old, rng), _place(old, rng)))
    if a + size > b or b + size > len(old):
        return old[::-1]
    return old[:a] + old[b : b + size] + old[a + size : b] + old[a : a + size] + old[b + size :]


def longer(old: bytes, rng: random.Random) -> bytes:
    return old + rng.choice((old, bytes(rng.choice((1, 4096))), rng.randbytes(100)))


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped, flipped, set_, numbered, numbered, numbered, cut, deleted, doubled, zeroed, random_, swapped, longer,
)  # fmt: skip


def token(old: str, rng: random.Random) -> str:
    """A word or a number replaced."""
    found = list(re.finditer(r"[\w.+-]+", old))
    if not found:
        return old + rng.choice(TOKENS)
    one = rng.choice(found)
    return old[: one.start()] + rng.choice(TOKENS) + old[one.end() :]


def other_token(old: str, rng: random.Random) -> str:
    """A word replaced by another of the same text."""
    found = list(re.finditer(r"[\w.+-]+", old)) or list(re.finditer("", old))
    one, other = rng.choice(found), rng.choice(found)
    return old[: one.start()] + other.group() + old[one.end() :]


def mark(old: str, rng: random.Random) -> str:
    """A bracket, a colon or the like deleted, or put anywhere."""
    if rng.random() < 0.5 and (found := list(re.finditer(r"[][{}:,\"'-]", old))):
        one = rng.choice(found)
        return old[: one.start()] + old[one.end() :]
    at = rng.randrange(len(old) + 1)
    return old[:at] + rng.choice("[]{}:,\"'-&*!|>%@`#?\0\t\n ") + old[at:]


def line(old: str, rng: random.Random) -> str:
    """A line deleted, doubled, moved, or indented."""
    lines = old.split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines.insert(other, lines.pop(at))
    else:
        lines[at] = rng.choice((" ", "  ", "\t")) + lines[at]
    return "\n".join(lines)


def nested(old: str, rng: random.Random) -> str:
    """A value deep in brackets."""
    found = list(re.finditer(r"[\w.+-]+", old)) or list(re.finditer("", old))
    one, depth = rng.choice(found), rng.choice((1, 2, 60, 5000))
    left, right = rng.choice(("[]", ("{a: ", "}"), ('{"a":', "}")))
    return old[: one.start()] + left * depth + one.group() + right * depth + old[one.end() :]


LINES = (token, token, token, other_token, mark, line, nested)


def text(old: bytes, rng: random.Random) -> bytes:
    return rng.choice(LINES)(old.decode("utf-8", "replace"), rng).encode()


def header(old: bytes, rng: random.Random) -> bytes:
    """The JSON at the start of a safetensors file changed as a text is, and its length said right or as it was."""
    size = struct.unpack("<Q", old[:8])[0]
    new = text(old[8 : 8 + size], rng)
    said = size if rng.random() < 0.2 else len(new)
    return struct.pack("<Q", said) + new + old[8 + size :]


def metadata(old: bytes, rng: random.Random) -> bytes:
    """A value somewhere in the metadata of a safetensors file."""
    size = struct.unpack("<Q", old[:8])[0]
    said = json.loads(old[8 : 8 + size])
    key = rng.choice(sorted(said))
    node = said[key]
    inner = rng.choice(sorted(node))
    node[inner] = rng.choice((None, -1, [], [2**62, 2], "F64", "x", {}, [0, 0], node[inner][:-1] if node[inner] else 0))
    new = json.dumps(said).encode()
    return struct.pack("<Q", len(new)) + new + old[8 + size :]


def change(target: Path, rng: random.Random) -> str:
    """Change a file, or a file of a folder, and return what was done to which."""
    files = [target] if target.is_file() else sorted(p for p in target.rglob("*") if p.is_file())
    path = rng.choice(files)
    name = "" if path == target else f" {path.relative_to(target)}"
    if path != target and rng.random() < 0.1:
        return f"{gone(path, rng)}{name}"
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        old = path.read_bytes()
        if not old:
            break
        kind = rng.choice(BYTES)
        if (path.suffix in TEXTS or path.name in TEXTS) and rng.random() < 0.8:
            kind = text
        elif path.suffix == ".safetensors" and not done and rng.random() < 0.5:
            kind = rng.choice((header, metadata))
        path.write_bytes(kind(old, rng))
        done.append(kind.__name__.rstrip("_"))
    return f"{', '.join(done)}{name}"


def gone(path: Path, rng: random.Random) -> str:
    """A file of a folder deleted, or another thing under its name."""
    path.unlink()
    kind = rng.choice(("deleted", "a folder", "a broken link"))
    if kind == "a folder":
        path.mkdir()
    elif kind == "a broken link":
        path.symlink_to("nowhere")
    return kind


def copied(source: Path, target: Path) -> None:
    """A copy that may be changed."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _place(old: bytes, rng: random.Random) -> int:
    near = rng.random() < 0.6
    return rng.randrange(min(len(old), HEADER) if near else len(old))


def _size(rng: random.Random) -> int:
    return rng.choice((1, 2, 4, 16, 64, 512, 4096))
