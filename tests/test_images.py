"""Hostile and unusual pictures give upright 8-bit RGB or one clear sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from attribution.errors import InputError
from attribution.pictures.collection import open_image, to_pixels


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def square(mode="RGB", colour=(200, 30, 40)):
    return Image.new(mode, (32, 32), colour)


def test_transparency_falls_on_white():
    image = open_image(encoded(square("RGBA", (255, 0, 0, 0))))
    assert image.mode == "RGB"
    assert image.getpixel((5, 5)) == (255, 255, 255)


def test_transparent_palette_falls_on_white():
    palette = square("P", 0)
    palette.putpalette([255, 0, 0] * 256)
    assert open_image(encoded(palette, transparency=0)).getpixel((1, 1)) == (255, 255, 255)


def test_cmyk_and_grey_become_rgb():
    assert open_image(encoded(square("CMYK", (0, 255, 255, 0)), "JPEG")).mode == "RGB"
    assert open_image(encoded(square("L", 90))).getpixel((3, 3)) == (90, 90, 90)


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.full((8, 8), 32768, dtype=np.uint16)
    pixel = open_image(encoded(Image.fromarray(values))).getpixel((0, 0))
    assert all(abs(p - 127) <= 1 for p in pixel)


def test_exif_rotation_is_applied():
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (10, 20)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, of a tag beyond the end
@pytest.mark.parametrize(
    "odd",
    [(0x8298, 5, 1, 60), (0x101, 10, 1, 8), (0x8298, 5, 1, 2**31), (0x9999, 99, 2**31, 0)],
    ids=["a fraction for a text", "a fraction for a number", "beyond the end", "of no type"],
)
def test_odd_exif_beside_the_orientation_does_not_matter(odd):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    tags = [(0x0112, 3, 1, 0), odd]
    for orientation in range(1, 9):
        tags[0] = (0x0112, 3, 1, orientation)
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
        exif += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(40)
        upright = Image.Exif()
        upright[0x0112] = orientation
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(image, exif=upright))))
        turned = open_image(encoded(image, exif=exif))
        assert np.array_equal(turned, expected.convert("RGB")), orientation


def test_what_pillow_fails_on_in_any_way_is_one_sentence(monkeypatch):
    def fail(image):
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(InputError, match="not a readable"):
        open_image(encoded(square()))


def test_webp_and_paths_are_read(tmp_path):
    path = tmp_path / "a.webp"
    path.write_bytes(encoded(square(), "WEBP", lossless=True))
    assert open_image(path).getpixel((2, 2)) == (200, 30, 40)


def bomb(side):
    """Build a tiny PNG that claims side x side pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


ANIMATED = encoded(
    square(), "WEBP", save_all=True, append_images=[square(colour=(1, 2, 3))], duration=100
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable"),
        (b"hello", "not a readable"),
        (encoded(Image.effect_noise((64, 64), 50))[:700], "not a readable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable"),
        (encoded(square(), "GIF"), "not a readable"),
        (encoded(square(), "BMP"), "not a readable"),
        (bomb(13_000), "40 megapixels"),
        (bomb(7_000), "40 megapixels"),
        (ANIMATED, "animated"),
    ],
    ids=["empty", "text", "truncated", "svg", "gif", "bmp", "bomb", "large", "animated"],
)
def test_bad_files_give_one_sentence(data, message):
    with pytest.raises(InputError, match=message) as caught:
        open_image(data)
    assert "\n" not in str(caught.value)


def test_pictures_of_any_shape_become_squares_in_range():
    pixels = to_pixels(
        [Image.new("RGB", (200, 50), "white"), Image.new("RGB", (3, 9), "black")], (64, 64)
    )
    assert pixels.shape == (2, 3, 64, 64)
    assert pixels.min() == -1
    assert pixels.max() == 1
