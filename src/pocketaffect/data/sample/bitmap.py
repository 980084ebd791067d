"""Writes uncompressed 24-bit BMP files.

JPEG and PNG bytes depend on the encoder's build; these depend on nothing, so that the sample's hash in
`data.dvc` holds on every machine. Own code for 15 lines, since OpenCV may change the header fields it fills.
"""

from __future__ import annotations

import struct

import numpy as np


def encode_bitmap(pixels: np.ndarray) -> bytes:
    """Encodes uint8 RGB pixels of shape (height, width, 3) as a BMP file."""
    height, width = pixels.shape[:2]
    stride = (width * 3 + 3) // 4 * 4
    rows = np.zeros((height, stride), dtype=np.uint8)
    rows[:, : width * 3] = pixels[::-1, :, ::-1].reshape(height, width * 3)
    offset = 54
    file_header = struct.pack("<2sIHHI", b"BM", offset + rows.nbytes, 0, 0, offset)
    info_header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.nbytes, 2835, 2835, 0, 0)
    return file_header + info_header + rows.tobytes()
