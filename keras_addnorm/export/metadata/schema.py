"""The part of TFLite's metadata schema that text models use, as data: packed, and read with bounds.

A table's value is a dict of its fields; a union's is a pair of a table's name and its value. An
enumeration's value is its number.

Source: `metadata_schema.fbs` of TensorFlow Lite Support and MediaPipe, version 1.5.0.
"""

import struct

IDENTIFIER = b"M001"
VOCABULARY, AXIS_LABELS = 5, 2  # of the enumeration AssociatedFileType; 0 is any file
# The first version of the schema with tokenizers and all that we write.
MIN_PARSER_VERSION = "1.1.0"

# Fields in the order of their slots, with their types: a scalar, a union, a table, or a list of
# one of them. None is a field that is neither written nor read.
TABLES = {
    "ModelMetadata": {
        "name": "string",
        "description": "string",
        "version": "string",
        "subgraph_metadata": ["SubGraphMetadata"],
        "author": "string",
        "license": "string",
        "associated_files": ["AssociatedFile"],
        "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string",
        "description": "string",
        "input_tensor_metadata": ["TensorMetadata"],
        "output_tensor_metadata": ["TensorMetadata"],
        "associated_files": ["AssociatedFile"],
        "input_process_units": ["ProcessUnit"],
    },
    "TensorMetadata": {
        "name": "string",
        "description": "string",
        "dimension_names": ["string"],
        "content": None,
        "process_units": ["ProcessUnit"],
        "stats": None,
        "associated_files": ["AssociatedFile"],
    },
    "ProcessUnit": {"options": "ProcessUnitOptions"},
    "NormalizationOptions": {},
    "ScoreCalibrationOptions": {},
    "ScoreThresholdingOptions": {},
    "BertTokenizerOptions": {"vocab_file": ["AssociatedFile"]},
    "SentencePieceTokenizerOptions": {
        "sentence_piece_model": ["AssociatedFile"],
        "vocab_file": ["AssociatedFile"],
    },
    "RegexTokenizerOptions": {"delim_regex_pattern": "string", "vocab_file": ["AssociatedFile"]},
    "AssociatedFile": {
        "name": "string",
        "description": "string",
        "type": "byte",
        "locale": "string",
        "version": "string",
    },
}
# What a union may hold; the position is the number in the file, and 0 is nothing.
UNIONS = {
    "ProcessUnitOptions": (
        None,
        "NormalizationOptions",
        "ScoreCalibrationOptions",
        "ScoreThresholdingOptions",
        "BertTokenizerOptions",
        "SentencePieceTokenizerOptions",
        "RegexTokenizerOptions",
    )
}

# Strings, tables and lists that a file may hold in all, and characters of a string: offsets may
# point to one part many times, so a small file can claim any number.
MOST_PARTS, MOST_BYTES = 10_000, 2**16


def pack(value):
    """The bytes of a `ModelMetadata`."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack(builder, "ModelMetadata", value), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _pack(builder, kind, value):
    """Writes a string, a list or a table; returns its offset."""
    if kind == "string":
        return builder.CreateString(value)
    if isinstance(kind, list):
        offsets = [_pack(builder, kind[0], item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    parts = [(slot, field, value[name]) for name, slot, field in _slots(kind) if name in value]
    written = []
    for slot, field, part in parts:  # What a table points to is written before it.
        if _is_union(field):
            written.append((slot, "byte", UNIONS[field].index(part[0])))
            written.append((slot + 1, "offset", _pack(builder, *part)))
        else:
            is_byte = field == "byte"
            written.append((slot, field, part if is_byte else _pack(builder, field, part)))
    builder.StartObject(max((slot for slot, *_ in written), default=-1) + 1)
    for slot, field, part in written:
        if field == "byte":
            builder.PrependUint8Slot(slot, part, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, part, 0)
    return builder.EndObject()


def _slots(table):
    """(name, slot, type) of a table's fields; a union takes two slots, its number and its value."""
    slot = 0
    for name, kind in TABLES[table].items():
        if kind is not None:
            yield name, slot, kind
        slot += 2 if _is_union(kind) else 1


def _is_union(kind):
    return isinstance(kind, str) and kind in UNIONS


def unpack(data):
    """Reads a `ModelMetadata`; fields that are not in `TABLES` are passed over.

    Args:
        data: bytes.

    Returns:
        Dict of the fields that are there.

    Raises:
        ValueError: if it is none, or a broken or hostile one.
    """
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"its identifier is {bytes(data[4:8])!r}, not {IDENTIFIER!r}")
    return _Reader(data).part("ModelMetadata", 0)


class _Reader:
    def __init__(self, data):
        self._data = data
        self._left = MOST_PARTS

    def _number(self, form, position):
        if not 0 <= position <= len(self._data) - struct.calcsize(form):
            raise ValueError("a part of it ends behind its end")
        return struct.unpack_from(form, self._data, position)[0]

    def part(self, kind, position):
        """The string, list or table that the offset at `position` points to."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it claims more than {MOST_PARTS:,} parts")
        start = position + self._number("<I", position)
        if kind == "string":
            return self._string(start)
        if isinstance(kind, list):
            length = self._number("<I", start)
            if length > self._left:
                raise ValueError(f"it claims more than {MOST_PARTS:,} parts")
            return [self.part(kind[0], start + 4 + 4 * i) for i in range(length)]
        return self._table(kind, start)

    def _string(self, start):
        size = self._number("<I", start)
        if size > MOST_BYTES:
            raise ValueError(f"it holds a text of {size:,} bytes, more than {MOST_BYTES:,}")
        self._left -= size // 100  # One long text may be named many times.
        if self._left < 0:
            raise ValueError(f"it claims more than {MOST_PARTS:,} parts")
        if start + 4 + size > len(self._data):
            raise ValueError("a part of it ends behind its end")
        return bytes(self._data[start + 4 : start + 4 + size]).decode(errors="replace")

    def _table(self, kind, start):
        fields = start - self._number("<i", start)
        size = self._number("<H", fields)

        def place(slot):
            """Where a field is, or None where it is left out."""
            entry = 4 + 2 * slot
            offset = self._number("<H", fields + entry) if entry + 2 <= size else 0
            return start + offset if offset else None

        found = {}
        for name, slot, field in _slots(kind):
            where = place(slot)
            if where is None:
                continue
            if field == "byte":
                found[name] = self._number("<B", where)
            elif _is_union(field):
                number, there = self._number("<B", where), place(slot + 1)
                known = 0 < number < len(UNIONS[field]) and there is not None
                if known:
                    found[name] = UNIONS[field][number], self.part(UNIONS[field][number], there)
            else:
                found[name] = self.part(field, where)
        return found
