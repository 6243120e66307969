"""Golden files for the Parquet reader, as pyarrow writes them.

  DIR/bin/python tests/oracle/parquet.py [--shared FOLDER]     (DIR: see setup.sh; a second, 200 KB)

parquet/types.jsonl      a table of every type that is read, nested and with nulls, a record a line
parquet/types-*.parquet  that table: both versions of pages, plain and by dictionary, each codec
parquet/refused-*        what is refused by name
parquet/old.parquet      what pyarrow does not write: lists of two levels, repeated fields without a
                         list around them, rows that go on in the next page (by hand, read by pyarrow)
parquet/shared.json      digests of the records of the real files in FOLDER/parquet
"""

import argparse
import datetime as dt
import decimal
import json
import math
import pathlib
import random
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from golden import GOLDEN, provenance, save_json

SEED = 17
ROWS = 43
OUT = GOLDEN / "parquet"
BLOCK = 100  # records a digest

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
FIELDS = {
    "id": pa.int64(),
    "i8": pa.int8(),
    "u8": pa.uint8(),
    "u32": pa.uint32(),
    "u64": pa.uint64(),
    "yes": pa.bool_(),
    "f16": pa.float16(),
    "f32": pa.float32(),
    "f64": pa.float64(),
    "text": pa.string(),
    "large": pa.large_string(),
    "word": pa.dictionary(pa.int32(), pa.string()),
    "code": pa.binary(5),
    "none": pa.int32(),
    "day": pa.date32(),
    "at_ms": pa.timestamp("ms"),
    "at_us": pa.timestamp("us", tz="UTC"),
    "at_ns": pa.timestamp("ns"),
    "time": pa.time64("us"),
    "price": pa.decimal128(10, 2),
    "wide": pa.decimal128(38, 20),
    "numbers": pa.list_(pa.int32()),
    "texts": pa.list_(pa.string()),
    "grid": pa.list_(pa.list_(pa.float64())),
    "pair": pa.list_(pa.bool_(), 2),
    "meta": pa.struct([("level", pa.int32()), ("deep", pa.struct([("tags", pa.list_(pa.string()))]))]),
    "messages": pa.list_(MESSAGE),
    "counts": pa.map_(pa.string(), pa.int64()),
}
WORDS = ["", "a", "critique", "Ä\u00e9\u4e2d\U0001f600", 'quote " \\ / \n\t\r\x01\x00', "x" * 90, "\u2028 \x7f"]
DIGITS = {"at_ms": 3, "at_us": 6, "at_ns": 9, "time": 6}


def make(rng, t, depth=0):
    """A value of a type; at every level some are null."""
    if rng.random() < 0.15 and depth < 4:
        return None
    if pa.types.is_boolean(t):
        return rng.random() < 0.5
    if pa.types.is_integer(t):
        bits, signed = t.bit_width, str(t)[0] == "i"
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        return rng.choice([low, high, 0, rng.randint(low, high), rng.randint(0, min(high, 1000))])
    if pa.types.is_floating(t):
        return rng.choice([0.0, -0.0, 1.5, -2.25, 65504.0, 0.1, 6e-8, math.nan, math.inf, -math.inf])
    if pa.types.is_fixed_size_binary(t):
        return bytes(rng.choice(b"ACGT") for _ in range(t.byte_width))
    if pa.types.is_date(t):
        return dt.date(1900, 1, 1) + dt.timedelta(days=rng.randint(0, 80000))
    if pa.types.is_timestamp(t):
        step = dt.timedelta(milliseconds=rng.choice([0, 999, rng.randint(-(10**13), 10**12)]))
        zone = dt.timezone.utc if t.tz else None
        return dt.datetime(1970, 1, 1, tzinfo=zone) + (step if t.unit != "ns" else step / 10)
    if pa.types.is_time(t):
        return dt.time(rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59), rng.choice([0, 7, 999999]))
    if pa.types.is_decimal(t):
        return decimal.Decimal(rng.randint(-(10**t.precision) + 1, 10**t.precision - 1)).scaleb(-t.scale,
               decimal.Context(prec=40))
    if pa.types.is_struct(t):
        return {f.name: make(rng, f.type, depth + 1) for f in t}
    if pa.types.is_map(t):
        return [(k, make(rng, t.item_type, 9)) for k in WORDS[: rng.randint(0, 3)]]
    if pa.types.is_fixed_size_list(t):
        return [make(rng, t.value_type, depth + 1) for _ in range(t.list_size)]
    if pa.types.is_list(t):
        return [make(rng, t.value_type, depth + 1) for _ in range(rng.choice([0, 1, 2, 3, 9]))]
    return rng.choice(WORDS)


def plain(value, name=None):
    """A value as it looks in JSON: the rules of docs/data.md."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, tuple):
        return {"key": plain(value[0]), "value": plain(value[1])}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= 1 << 53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, (dt.datetime, dt.time)):
        text = value.strftime("%H:%M:%S")
        if isinstance(value, dt.datetime):
            text = f"{value.date().isoformat()}T{text}"
        if value.microsecond:
            text += "." + f"{value.microsecond:06}000"[: DIGITS[name]]
        return text + ("Z" if value.tzinfo else "")
    if isinstance(value, dt.date):
        return value.isoformat()
    return value


def canonical(record):
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def records_of(table):
    return [{k: plain(v, k) for k, v in row.items()} for row in table.to_pylist()]


def write(name, table, **options):
    options = {"row_group_size": 29, "data_page_size": 128, "write_batch_size": 4, "compression": "none",
               "use_dictionary": False, "write_statistics": False, "store_schema": False} | options
    pq.write_table(table, OUT / name, **options)


def types():
    rng = random.Random(SEED)
    columns = {n: [make(rng, t) for _ in range(ROWS)] for n, t in FIELDS.items()}
    columns["id"] = [(1 << 53) - 3 + i for i in range(ROWS)]
    columns["none"] = [None] * ROWS
    schema = pa.schema([pa.field(n, t, nullable=n != "id") for n, t in FIELDS.items()])
    table = pa.table([pa.array(columns[n], t) for n, t in FIELDS.items()], schema=schema)
    (OUT / "types.jsonl").write_text("".join(canonical(r) + "\n" for r in records_of(table)))
    write("types-v1.parquet", table)
    write("types-v1-snappy.parquet", table, compression="snappy", use_dictionary=True)
    write("types-v1-gzip.parquet", table, compression="gzip", write_page_checksum=True, row_group_size=ROWS)
    write("types-v2.parquet", table, data_page_version="2.0", row_group_size=7)
    write("types-v2-zstd.parquet", table, data_page_version="2.0", compression="zstd", use_dictionary=True)
    write("types-v2-gzip.parquet", table, data_page_version="2.0", compression="gzip", write_page_index=True,
          write_statistics=True)
    write("types-v2-snappy.parquet", table, data_page_version="2.0", compression="snappy", use_dictionary=True,
          write_page_checksum=True, row_group_size=ROWS, data_page_size=1 << 20)
    write("types-int96.parquet", table.select(["at_ms", "at_ns"]), use_deprecated_int96_timestamps=True)
    one = table.select(["id", "u32"])
    write("small.parquet", pa.table({"q": ["one", None, "one"], "n": [[1, 2], [], None]}), use_dictionary=True,
          compression="snappy", write_page_checksum=True)
    write("empty.parquet", one.slice(0, 0))
    write("not-utf8.parquet", pa.table({"image": pa.array([b"text", b"\xff\xd8"], pa.binary())}))
    write("refused-delta.parquet", one, column_encoding={"id": "DELTA_BINARY_PACKED", "u32": "PLAIN"})
    write("refused-split.parquet", one, column_encoding={"id": "BYTE_STREAM_SPLIT", "u32": "PLAIN"})
    write("refused-brotli.parquet", one, compression="brotli")


# ---- by hand -------------------------------------------------------------------------------------

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12


class Long(int):
    """An integer of 64 bits."""


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def thrift(*fields):
    """A struct of Thrift's compact protocol from (id, value): int, bytes, list or a struct's bytearray."""
    out, last = b"", 0
    for key, value in fields:
        kind = {int: I32, Long: I64, bytes: BINARY, list: LIST, bytearray: STRUCT}[type(value)]
        out, last = out + bytes([(key - last) << 4 | kind]), key
        out += encoded(value)
    return bytearray(out + b"\0")


def encoded(value):
    if isinstance(value, int):
        return varint(value << 1)  # zigzag; none is negative
    if isinstance(value, bytes):
        return varint(len(value)) + value
    if isinstance(value, list):
        kind = {int: I32, bytes: BINARY, bytearray: STRUCT}[type(value[0])]
        return bytes([len(value) << 4 | kind]) + b"".join(encoded(v) for v in value)
    return bytes(value)


def page(levels, full):
    """A data page, version 1, of (repetition, definition, value)."""
    body = b""
    for column in (0, 1):
        runs = b"".join(bytes([2, level[column]]) for level in levels)  # runs of one
        body += struct.pack("<I", len(runs)) + runs
    body += b"".join(struct.pack("<i", v) for _, d, v in levels if d == full)
    header = thrift((1, 0), (2, len(body)), (3, len(body)), (5, thrift((1, len(levels)), (2, 0), (3, 3), (4, 3))))
    return bytes(header) + body


def old():
    required, optional, repeated, converted_list = 0, 1, 2, 3
    pairs = [[(0, 2, 1), (1, 2, 2), (0, 0, 0), (0, 1, 0), (0, 2, 3)]]
    columns = [(["a", "array"], 2, pairs), (["b", "array", "x"], 2, pairs),
               (["c"], 1, [[(0, 1, 5), (0, 0, 0), (0, 1, 6)], [(1, 1, 7)], [(1, 1, 8), (0, 1, 9)]])]
    schema = [thrift((4, b"root"), (5, 3)),
              thrift((3, optional), (4, b"a"), (5, 1), (6, converted_list)), thrift((1, 1), (3, repeated), (4, b"array")),
              thrift((3, optional), (4, b"b"), (5, 1), (6, converted_list)), thrift((3, repeated), (4, b"array"), (5, 1)),
              thrift((1, 1), (3, required), (4, b"x")), thrift((1, 1), (3, repeated), (4, b"c"))]
    text, chunks = b"PAR1", []
    for path, full, pages in columns:
        data = b"".join(page(levels, full) for levels in pages)
        values = sum(len(levels) for levels in pages)
        meta = thrift((1, 1), (2, [0, 3]), (3, [p.encode() for p in path]), (4, 0), (5, Long(values)),
                      (6, Long(len(data))), (7, Long(len(data))), (9, Long(len(text))))
        chunks.append(thrift((2, Long(len(text))), (3, meta)))
        text += data
    footer = thrift((1, 1), (2, schema), (3, Long(4)), (4, [thrift((1, chunks), (2, Long(len(text))), (3, Long(4)))]))
    text += bytes(footer) + struct.pack("<I", len(footer)) + b"PAR1"
    (OUT / "old.parquet").write_bytes(text)
    read = pq.read_table(OUT / "old.parquet").to_pylist()
    assert [r["a"] for r in read] == [[1, 2], None, [], [3]], read
    assert [r["b"] for r in read] == [[{"x": 1}, {"x": 2}], None, [], [{"x": 3}]], read
    assert [r["c"] for r in read] == [[5], [], [6, 7, 8], [9]], read


def shared(folder):
    """Per block of records one digest of their canonical JSON."""
    out = {"provenance": provenance(__file__, pyarrow=pa.__version__), "block": BLOCK, "files": {}}
    for path in sorted((folder / "parquet").glob("*.parquet")):
        records = records_of(pq.read_table(path))
        texts = [canonical(r) + "\n" for r in records]
        digests = [xxhash.xxh3_128_hexdigest("".join(texts[i : i + BLOCK]).encode()) for i in range(0, len(texts), BLOCK)]
        out["files"][path.name] = {"records": len(records), "digests": digests}
    save_json(OUT / "shared.json", out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=pathlib.Path)
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    types()
    old()
    if arguments.shared:
        shared(arguments.shared)
