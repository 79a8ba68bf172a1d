"""Image files as people have them: formats, depths, pages, and broken ones. The files are made here."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image, features

from ssl_core.datasets import pixels
from ssl_core.datasets.pixels import FORMATS, UnreadableImage, decode, read_frame, scale_of

RAMP = np.linspace(0, 1, 784).reshape(28, 28)
GREY = (RAMP * 255).round().astype(np.uint8)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F")

DEEP = {"I": ("PNG", "TIFF", "PPM"), "I;16": ("PNG", "TIFF", "PPM", "JPEG2000"), "F": ("TIFF", "PPM")}


def image_of(mode):
    """The ramp, from black to white, in a mode of Pillow."""
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32))
    if mode == "I":
        return Image.fromarray((RAMP * 4095).astype(np.int32))
    if mode.startswith("I;16"):
        return Image.fromarray((RAMP * 4095).astype(">u2" if mode == "I;16B" else "<u2"))
    grey = Image.fromarray(GREY)
    if mode == "P":
        return grey.quantize(64)
    return grey.convert("RGB").convert(mode) if mode == "CMYK" else grey.convert(mode)


def save(image, path, **options):
    """Whether Pillow can write the image in this format; if so it is written."""
    try:
        image.save(path, **options)
    except (OSError, KeyError, ValueError):
        path.unlink(missing_ok=True)
        return False
    return True


def writable(ending, mode):
    """Whether Pillow writes images of this mode in this format as they are."""
    if (mode.startswith("I") or mode == "F") and FORMATS[ending] not in DEEP.get(mode, DEEP["I"]):
        return False
    with TemporaryDirectory() as folder:
        return (ending, mode) not in ((".j2k", "CMYK"), (".ico", "1")) and save(image_of(mode), Path(folder) / f"ramp{ending}")


HELD = [(ending, mode) for ending in FORMATS if ending not in pixels.HEIF for mode in MODES if writable(ending, mode)]


@pytest.mark.parametrize("ending, mode", HELD)
def test_each_format_in_each_mode_that_it_holds(tmp_path, ending, mode):
    path, image = tmp_path / f"ramp{ending}", image_of(mode)
    deep = mode.startswith("I") or mode == "F"
    assert save(image, path)
    frame = read_frame(path)
    expected = np.asarray(image.convert("L")) if mode == "1" else GREY
    error = np.abs(frame.pixels().astype(int) - expected[..., None].astype(int))
    assert error.max() <= 12 or (mode == "1" and error.mean() < 12)  # losses of JPEG and WebP, 64 levels, and dots
    assert frame.deep == deep and not frame.notes
    if deep:
        assert len(np.unique(frame.pixels())) == 256


@pytest.mark.parametrize("top", [255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["<u2", ">u2", "i4", "f4"])
def test_any_bit_depth_keeps_its_grey_levels(tmp_path, top, kind):
    Image.fromarray((RAMP * top).astype(kind)).save(tmp_path / "ramp.tif")
    assert len(np.unique(decode(tmp_path / "ramp.tif")[0])) == 256


@pytest.mark.parametrize("low, high", [(0, 1), (0, 255), (-1, 1), (7000, 9000), (-1000, 3000)])
def test_any_range_of_floats_fills_the_scale(tmp_path, low, high):
    Image.fromarray((low + RAMP * (high - low)).astype(np.float32)).save(tmp_path / "ramp.tif")
    read, _ = decode(tmp_path / "ramp.tif")
    assert np.abs(read[..., 0].astype(int) - GREY).max() <= 1


def test_one_scale_keeps_a_dark_frame_darker_than_a_bright_one(tmp_path):
    for name, top in (("dark", 255), ("bright", 4095)):
        Image.fromarray((RAMP * top).astype(np.uint16)).save(tmp_path / f"{name}.png")
    frames = [read_frame(tmp_path / f"{name}.png") for name in ("dark", "bright")]
    scale = scale_of(frames)
    dark, bright = (frame.pixels(scale) for frame in frames)
    assert scale == (0, 4095) and dark.max() == 16 and bright.max() == 255
    assert np.array_equal(decode(tmp_path / "dark.png", scale)[0], dark)


def test_bytes_of_8_bit_images_are_never_scaled(tmp_path):
    Image.fromarray(GREY // 2).save(tmp_path / "dark.png")
    assert np.array_equal(decode(tmp_path / "dark.png", (0, 4095))[0][..., 0], GREY // 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_number_are_filled_and_told(tmp_path, value):
    ramp = RAMP.astype(np.float32)
    ramp[3, 3] = value
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    frame = read_frame(tmp_path / "ramp.tif")
    assert frame.notes == ("1 pixel that is no number: filled with the median",)
    assert abs(int(frame.pixels()[3, 3, 0]) - 127) <= 2 and len(np.unique(frame.pixels())) > 250
    Image.fromarray(np.full((28, 28), value, np.float32)).save(tmp_path / "nothing.tif")
    with pytest.raises(UnreadableImage, match=r"^no pixel that is a number$"):
        read_frame(tmp_path / "nothing.tif")


@pytest.mark.parametrize("ending, what", [("tif", "pages"), ("gif", "frames"), ("png", "frames"), ("webp", "frames")])
def test_the_first_of_several_pages_is_used_and_told(tmp_path, ending, what):
    first, *more = (Image.fromarray(np.roll(GREY, i * 9, axis=0)) for i in range(3))
    first.save(tmp_path / f"stack.{ending}", save_all=True, append_images=more)
    frame = read_frame(tmp_path / f"stack.{ending}")
    assert frame.notes == (f"3 {what}: the first is used",)
    assert np.abs(frame.pixels()[..., 0].astype(int) - GREY).max() <= 12


def test_photograph_of_a_phone_with_a_second_view_is_one_picture(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "view.jpg", format="MPO", save_all=True, append_images=[Image.fromarray(GREY.T)])
    assert not read_frame(tmp_path / "view.jpg").notes


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_of_16_bits_are_told(tmp_path, ending):
    """Pillow writes none, so the files are made by hand."""
    values = (np.repeat(RAMP[..., None], 3, axis=2) * 65535).astype(">u2")
    path = tmp_path / f"deep.{ending}"
    path.write_bytes(_png(values) if ending == "png" else _tiff(values))
    frame = read_frame(path)
    assert frame.notes == ("16 bits in each colour: the upper 8 are used",) and not frame.deep
    assert np.abs(frame.pixels()[..., 0].astype(int) - GREY).max() <= 1


def _png(values):
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _tiff(values):
    import struct

    height, width, _ = values.shape
    content = values.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(content)), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(content))]
    start = 8 + len(content) + 6
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, start) + content + struct.pack("<3H", 16, 16, 16) + directory


@pytest.mark.parametrize("orientation, turn", [(3, 2), (6, 3), (8, 1)])
def test_picture_that_was_turned_is_upright(tmp_path, orientation, turn):
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "turned.png")[0][..., 0], np.rot90(GREY, turn))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    alpha = np.where(RAMP < 0.5, 0, 255).astype(np.uint8)
    black = np.zeros((28, 28), np.uint8)
    if mode == "P":
        image = Image.fromarray((alpha > 0).astype(np.uint8)).convert("L")
        image = Image.frombytes("P", (28, 28), image.tobytes())
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.save(tmp_path / "clear.png", transparency=0)
    else:
        channels = [black] * (len(mode) - 1)
        Image.merge(mode, [Image.fromarray(each) for each in (*channels, alpha)]).save(tmp_path / "clear.png")
    assert np.array_equal(decode(tmp_path / "clear.png")[0][..., 0], 255 - alpha)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("empty.png", b"", "an empty file"),
        ("text.png", b"no image at all, but a text of some length", "not an image of a kind that is read: PNG, JPEG, "),
        ("page.jpg", b"<!DOCTYPE html><html>404</html>", "not an image of a kind that is read: "),
        ("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS in place of the image: "),
        ("noise.tga", bytes(range(40)), ""),
        ("head.bmp", b"BM" + b"\xff" * 60, ""),
        ("plot.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a kind that is read: "),
    ],
)
def test_file_that_is_no_image_has_a_reason_of_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImage) as stop:
        read_frame(tmp_path / name)
    assert str(stop.value).startswith(reason) and str(stop.value).isprintable()


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending not in pixels.HEIF])
def test_truncated_files_are_told_or_read(tmp_path, ending):
    assert save(image_of("RGB"), tmp_path / f"whole{ending}") or save(image_of("L"), tmp_path / f"whole{ending}")
    content = (tmp_path / f"whole{ending}").read_bytes()
    for part in range(1, 20):
        (tmp_path / f"cut{ending}").write_bytes(content[: len(content) * part // 20])
        try:
            assert read_frame(tmp_path / f"cut{ending}").values.shape[:2] == (28, 28)
        except UnreadableImage as error:
            assert str(error).isprintable()


def test_huge_header_is_refused_unopened(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(UnreadableImage, match=r"million pixels: must be at most 80 million$"):
        read_frame(tmp_path / "huge.png")


def test_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "huge.tif").open("wb") as file:
        file.truncate(pixels.MOST_BYTES * 3)  # a hole: it takes no place on disk
    with pytest.raises(UnreadableImage, match=r"^3\.0 GB: must be at most 1 GB$"):
        read_frame(tmp_path / "huge.tif")


def test_heic_under_another_ending_is_named(tmp_path):
    if pixels.HEIF:
        pytest.skip("pillow-heif is installed")
    (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(UnreadableImage, match=r"^HEIC by its content, which is read only with pillow-heif: "):
        read_frame(tmp_path / "photo.jpg")


def test_heic_is_read_where_its_plug_in_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    assert {".heic", ".heif"} <= set(FORMATS)
    pillow_heif.from_pillow(Image.fromarray(GREY).convert("RGB")).save(tmp_path / "photo.heic", quality=95)
    assert np.abs(decode(tmp_path / "photo.heic")[0][..., 0].astype(int) - GREY).max() <= 12


def test_avif_is_read_where_pillow_has_it():
    assert (".avif" in FORMATS) == bool(features.check("avif"))


def tiff(path, values, **tags):
    """Writes numbers as a TIFF with other tags than Pillow's own, by their names."""
    values = np.ascontiguousarray(values)
    numbers = {"bits": 258, "photometric": 262, "kind": 339} | {
        "width": 256,
        "height": 257,
        "packed": 259,
        "rows": 278,
        "size": 279,
    }
    entries = {"width": values.shape[1], "height": values.shape[0], "packed": 1, "rows": values.shape[0], "size": values.nbytes}
    entries |= {"bits": 8 * values.itemsize, "photometric": 1, "kind": 1} | tags
    found = {numbers[name]: value for name, value in entries.items()} | {273: 8 + 2 + 12 * (len(entries) + 2) + 4, 277: 1}
    content = b"II*\0" + struct.pack("<IH", 8, len(found))
    for number, value in sorted(found.items()):
        content += (
            struct.pack("<HHII", number, 4, 1, value) if number in (273, 279) else struct.pack("<HHIHH", number, 3, 1, value, 0)
        )
    path.write_bytes(content + b"\0" * 4 + values.tobytes())
    return path


def test_whole_numbers_of_32_bits_have_no_sign_unless_they_say_so(tmp_path):
    values = (RAMP * 4e9).astype("<u4")
    assert np.allclose(read_frame(tiff(tmp_path / "x.tif", values)).values, values, rtol=1e-6)
    signed = (RAMP * 4e9 - 2e9).astype("<i4")
    assert np.allclose(read_frame(tiff(tmp_path / "y.tif", signed, kind=2)).values, signed, rtol=1e-6, atol=1)


def test_white_may_be_zero(tmp_path):
    """As in scans: also of a picture with 16 bits, as Pillow has it for 8."""
    deep = tiff(tmp_path / "x.tif", (65535 - RAMP * 65535).astype("<u2"), photometric=0)
    flat = tiff(tmp_path / "y.tif", (255 - RAMP * 255).astype("u1"), photometric=0)
    assert np.abs(read_frame(deep).pixels().astype(int) - read_frame(flat).pixels()).max() <= 1
    assert read_frame(deep).pixels()[-1, -1, 0] == 255


def test_values_that_stand_for_none_are_filled_and_told(tmp_path):
    values = RAMP.astype(np.float32).copy()
    values[:5] = -9999
    Image.fromarray(values).save(tmp_path / "map.tif", tiffinfo={42113: "-9999"})
    frame = read_frame(tmp_path / "map.tif")
    assert frame.values.min() >= 0 and frame.notes == ("140 pixels are no number: filled with the median",)


def test_tiff_that_pillow_does_not_know_is_named(tmp_path):
    with pytest.raises(UnreadableImage, match="a TIFF with pixels that are not read: must be grey with up to 32 bits"):
        read_frame(tiff(tmp_path / "x.tif", RAMP.astype("<f8"), kind=3))


@pytest.mark.parametrize("kind, kept", [("PNG", 12), ("GIF", 8)])
def test_damaged_file_is_not_told_to_be_of_another_kind(tmp_path, kind, kept):
    Image.fromarray(GREY).save(tmp_path / "x", kind)
    (tmp_path / "x.png").write_bytes((tmp_path / "x").read_bytes()[:kept])
    with pytest.raises(UnreadableImage, match=f"^damaged: it begins like {kind}, but what follows can't be read$"):
        read_frame(tmp_path / "x.png")
