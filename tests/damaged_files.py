"""Strategies of Hypothesis that draw the bytes of files: valid ones with a few changes, and unusual text."""

import io
import json
import struct
import zipfile

import numpy as np
import torch
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**32, 2**63, 10**30, 1e308, 0.5, float("nan"), float("inf")]),
    st.integers(-3, 2000),
    st.floats(),
)
SCALARS = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=20))
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
CHUNKS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 300]),
    st.sampled_from([b'"', b"\n", b"|", b",", b"[" * 5000, b"9" * 5000, b"\xed\xa0\x80", b"\xef\xbb\xbf"]),
)


@st.composite
def changed_bytes(draw, valid: bytes) -> bytes:
    """Return bytes with parts overwritten, inserted, deleted or repeated, most of them near the start."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 4, 8, 100, len(data)]))
        match draw(st.sampled_from(["overwrite", "insert", "delete", "repeat"])):
            case "overwrite":
                chunk = draw(CHUNKS)
                data[start : start + len(chunk)] = chunk
            case "insert":
                data[start:start] = draw(CHUNKS)
            case "delete":
                del data[start : start + size]
            case "repeat":
                data[start:start] = data[start : start + size]
    return bytes(data)


@st.composite
def changed_value(draw, valid):
    """Return parsed JSON with a few values replaced or deleted, at any depth."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 3))):
        parent, key = None, None
        place = value
        while isinstance(place, dict | list) and place and (parent is None or draw(st.booleans())):
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            parent, key = place, draw(st.sampled_from(keys))
            place = place[key]
        if parent is None:
            return draw(JUNK)
        if draw(st.integers(0, 4)):
            parent[key] = draw(JUNK)
        else:
            del parent[key]
    return value


def changed_json(valid) -> st.SearchStrategy[bytes]:
    values = changed_value(valid).map(lambda value: json.dumps(value).encode())
    return values | values.flatmap(changed_bytes)


@st.composite
def changed_lines(draw, lines: list[str], separator: str) -> bytes:
    """Return lines of a table with fields replaced and lines repeated or damaged."""
    rows = [line.split(separator) for line in lines]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(rows))
        texts = (
            st.text(max_size=10) | NUMBERS.map(str) | st.sampled_from(['"', "..", "/", "\0", "x" * 200_000])
        )
        row[draw(st.integers(0, len(row) - 1))] = draw(texts)
    text = draw(st.sampled_from(["\n", "\r\n"])).join(separator.join(row) for row in rows)
    return draw(changed_bytes(text.encode(errors="surrogatepass")))


@st.composite
def changed_npy(draw) -> bytes:
    """Return a .npy file of a mel with one change: of its header, its values or its bytes, or with none."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (80, 20)}
    values = np.linspace(-3, 1, 1600, dtype="<f4")
    change = draw(st.sampled_from([*header, "values", "length", "bytes", "nothing"]))
    match change:
        case "descr":
            kinds = [
                "<f4",
                ">f8",
                "<f2",
                "|O",
                "<U4",
                "<c8",
                "|b1",
                "<M8[s]",
                "|V8",
                "<i8",
                "<f16",
                "",
                "f4,f4",
            ]
            header["descr"] = draw(st.sampled_from(kinds))
        case "fortran_order":
            header["fortran_order"] = True
        case "shape":
            sizes = st.sampled_from([0, 1, 20, 80, -1, 2**31, 2**40, 2**62])
            shapes = st.just((1, 80, 20)) | st.just((20, 80)) | st.lists(sizes, max_size=4).map(tuple)
            header["shape"] = draw(shapes)
        case "values":
            start = draw(st.integers(0, 1599))
            values[start : start + draw(st.integers(1, 1600))] = draw(
                st.floats(-6, 4) | NUMBERS.map(as_float)
            )
        case "length":
            values = np.resize(values, draw(st.integers(0, 1700)))
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    data = stream.getvalue() + values.tobytes()
    return draw(changed_bytes(data)) if change == "bytes" else data


def as_float(number: float) -> np.float32:
    with np.errstate(all="ignore"):
        try:
            return np.float32(number)
        except OverflowError:
            return np.float32(np.inf)


@st.composite
def changed_safetensors(draw, valid: bytes) -> bytes:
    """Return a .safetensors file with a changed header, or other bytes."""
    (size,) = struct.unpack("<Q", valid[:8])
    header = json.dumps(draw(changed_value(json.loads(valid[8 : 8 + size])))).encode()
    data = struct.pack("<Q", len(header)) + header + valid[8 + size :]
    return draw(st.just(data) | changed_bytes(data) | changed_bytes(valid))


@st.composite
def changed_pickle(draw, contents: dict) -> bytes:
    """Return a file of torch.save with other values, in its old or new form, with a changed pickle."""
    contents = dict(contents)
    tensors = st.sampled_from(
        [
            torch.zeros(0), torch.zeros(()), torch.zeros(2, 3, 4), torch.tensor(float("nan")),
            torch.ones(3).bool(), torch.zeros(1).expand(2**40), torch.zeros(3, dtype=torch.complex64),
            torch.zeros(3).to_sparse(),
            torch.empty(3, device="meta"), torch.nn.Parameter(torch.zeros(3)), torch.zeros(3).half(),
            torch.Size([1]), {"a": torch.zeros(1)},
        ]
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        place, key = contents, draw(st.sampled_from(sorted(contents)))
        if isinstance(place[key], dict) and place[key] and draw(st.integers(0, 4)):
            place[key] = dict(place[key])
            place, key = place[key], draw(st.sampled_from(sorted(place[key])))
        place[key] = draw(tensors | JUNK)
    stream, is_zip = io.BytesIO(), draw(st.booleans())
    torch.save(contents, stream, _use_new_zipfile_serialization=is_zip)
    if not is_zip or draw(st.integers(0, 3)) == 0:
        return draw(changed_bytes(stream.getvalue()))
    repacked = io.BytesIO()  # with correct checksums, so that the pickle itself is read
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(repacked, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, draw(changed_bytes(data)) if name.endswith("data.pkl") else data)
    return repacked.getvalue()


@st.composite
def changed_wav(draw) -> bytes:
    """Return a WAV file with any numbers in its header."""
    u16, u32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
    width = draw(st.sampled_from([1, 2, 3, 4, 8]) | u16)
    rate, channels = draw(st.sampled_from([22050, 0, 1]) | u32), draw(st.sampled_from([1, 2, 0]) | u16)
    header = struct.pack(
        "<HHIIHH",
        draw(st.sampled_from([1, 3, 2, 6, 7, 17, 49, 0xFFFE]) | u16),
        channels,
        rate,
        draw(st.just(rate * channels * width % 2**32) | u32),
        draw(st.just(channels * width % 2**16) | u16),
        draw(st.just(width * 8 % 2**16) | u16),
    )
    body = draw(st.sampled_from([b"", b"\0" * 4000, bytes(range(256)) * 16]))
    sizes = [draw(st.just(len(body)) | u32), draw(st.just(36 + len(body)) | u32)]
    chunks = b"fmt " + struct.pack("<I", draw(st.just(16) | u32)) + header
    chunks += draw(st.just(b"") | st.builds(lambda n: b"LIST" + struct.pack("<I", n) + b"\0" * 8, u32))
    file = (
        b"RIFF"
        + struct.pack("<I", sizes[1])
        + b"WAVE"
        + chunks
        + b"data"
        + struct.pack("<I", sizes[0])
        + body
    )
    return draw(st.just(file) | changed_bytes(file))


WORDS = [
    "Dr.",
    "$1,234.56",
    "1/2",
    "3rd",
    "19:45",
    "1999-12-31",
    "U.S.A.",
    "e.g.",
    "[nəˈvɑːdə]",
    "10^-3",
    "№ 5",
]
WORDS += [
    "£5m",
    "5'10\"",
    "IV",
    "--",
    "…",
    "&amp;",
    "x" * 300,
    "9" * 400,
    "1,000" * 50,
    "(((",
    "🙂",
    "日本語",
    "é",
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=60).map(" ".join)
LONG_TEXTS = st.tuples(TEXTS | st.text(max_size=5), st.sampled_from([1, 10, 300])).map(
    lambda t: t[0][:500] * t[1]
)
