"""Files that travel inside a .tflite file: a zip archive behind the flatbuffer, uncompressed.

Runtimes of the model read the flatbuffer and do not look behind it; readers of metadata look for an
archive at the end of the file, as readers of zip files do.
"""

import struct
import zipfile

END = struct.Struct("<4s4H2LH")  # the end of a zip archive's directory
ENTRY = struct.Struct("<4s6H3L5H2L")  # a file in the directory
HEADER = struct.Struct("<4s5H3L2H")  # what precedes a file's content
MOST_FILES = 100
MOST_COMMENT = 2**16 - 1


def append_files(path, files):
    """Writes files behind a .tflite file; the same files always give the same bytes.

    Args:
        path: the .tflite file.
        files: dict of contents, bytes, by name.
    """
    with open(path, "r+b") as file:
        file.seek(0, 2)
        # Not in the mode "a", which looks for an archive that is there, and weights may look so.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name)  # dated 1980-01-01
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, content)


def list_files(data):
    """The files behind a .tflite file, without reading what is in them.

    Args:
        data: the whole file as a bytes-like object, such as a memory map.

    Returns:
        Dict of `(start, size)`, in bytes, by name; empty where there is no archive.

    Raises:
        ValueError: if the archive is broken, hostile, or compressed, which MediaPipe refuses too.
    """
    end = data.rfind(b"PK\5\6", max(0, len(data) - MOST_COMMENT - END.size))
    if end < 0 or end + END.size > len(data):
        return {}
    _, _, _, _, number, size, start, _ = END.unpack_from(data, end)
    if number > MOST_FILES:
        raise ValueError(f"it claims {number:,} files, more than {MOST_FILES}")
    shift = end - size - start  # of archives whose offsets start behind the flatbuffer
    if shift < 0:
        raise ValueError("its directory is not where it says")
    found, place = {}, end - size
    for _ in range(number):
        if place + ENTRY.size > end or data[place : place + 4] != b"PK\1\2":
            raise ValueError("its directory is broken")
        entry = ENTRY.unpack_from(data, place)
        method, packed, unpacked, *lengths = entry[4], entry[8], entry[9], *entry[10:13]
        name = bytes(data[place + ENTRY.size : place + ENTRY.size + lengths[0]])
        name = name.decode(errors="replace")
        if method != zipfile.ZIP_STORED or packed != unpacked:
            raise ValueError(f"{name!r} is compressed; metadata's files are stored as they are")
        found[name] = _content(data, name, shift + entry[16], unpacked, end - size)
        place += ENTRY.size + sum(lengths)
    return found


def _content(data, name, header, size, end):
    """(start, size) of a file's content, which lies between its header and the directory."""
    if header + HEADER.size > end or data[header : header + 4] != b"PK\3\4":
        raise ValueError(f"{name!r} is not where its directory says")
    parts = HEADER.unpack_from(data, header)
    start = header + HEADER.size + parts[9] + parts[10]
    if start + size > end:
        raise ValueError(f"{name!r} is longer than the archive")
    return start, size
