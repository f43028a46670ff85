"""Images: arrays, IDX files, archives with labels, and folders of PNG files."""

import json
import struct
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from ppl_models.data import Schema, arrays, read
from ppl_models.errors import DataError

GREY = np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 3)).astype(np.uint8)


def folder(path, images, names=None):
    path.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / (names[i] if names else f"i{i}.png"))
    return path


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("form", ["array", "npy", "npz", "idx", "png"])
def test_every_form_gives_the_same_rows(images, form, tmp_path):
    path = tmp_path / f"a.{form}"
    if form == "npy":
        np.save(path, images)
    elif form == "npz":
        np.savez(path, images)
    elif form == "idx":
        header = b"\0\0\x08" + bytes([images.ndim]) + struct.pack(f">{images.ndim}I", *images.shape)
        path.write_bytes(header + images.tobytes())
    data = read(images if form == "array" else folder(tmp_path / "d", images) if form == "png" else path)
    assert data.schema.shape == images.shape[1:]
    np.testing.assert_array_equal(data.values, images.reshape(5, -1))
    assert {str(c.kind) for c in data.schema.columns} == {"continuous"}


def test_the_shape_is_stored_and_older_schemas_have_none():
    schema = read(GREY).schema
    stored = json.loads(json.dumps(schema.to_dict()))
    assert Schema.from_dict(stored) == schema
    del stored["shape"]
    assert Schema.from_dict(stored).shape is None
    assert read(GREY, columns="x0,x1").schema.shape is None


def test_y_of_an_archive_is_its_target_and_nothing_else(tmp_path):
    np.savez(tmp_path / "a.npz", X=GREY, y=[0, 1, 1, 2, 0])
    assert read(tmp_path / "a.npz").names[-1] == "x11"
    data = read(tmp_path / "a.npz", target="y")
    assert (data.names[-1], data.schema.columns[-1].levels, data.schema.shape) == (
        "y",
        ("0", "1", "2"),
        (3, 4),
    )
    np.save(tmp_path / "new.npy", GREY)
    assert np.isnan(read(tmp_path / "new.npy", schema=data.schema).values[:, -1]).all()
    np.testing.assert_array_equal(read(tmp_path / "a.npz", schema=data.schema).values, data.values)
    np.savez(tmp_path / "b.npz", X=GREY, y=["a"] * 5)
    with pytest.raises(DataError, match="it must be 5 numbers"):
        read(tmp_path / "b.npz", target="y")


def test_lengths_of_an_archive_that_cannot_be_are_its_fault(tmp_path):
    for lengths in ([2, 2], [0, 3], ["a"], [1.5, 1.5]):
        np.savez(tmp_path / "a.npz", X=np.arange(3.0), lengths=np.array(lengths))
        with pytest.raises(DataError, match=r"a\.npz: its lengths must"):
            read(tmp_path / "a.npz")


def test_later_images_have_the_size_of_the_fit(tmp_path):
    with pytest.raises(DataError, match="images of 4 × 3, where the model was fitted to images of 3 × 4"):
        read(GREY.transpose(0, 2, 1), schema=read(GREY).schema)


def test_files_are_rows_in_the_order_of_their_names(tmp_path):
    path = folder(tmp_path / "d", GREY[:3], ["i10.png", "i2.PNG", "i1.png"])
    (path / "notes.txt").write_text("x")
    data = read(path)
    np.testing.assert_array_equal(data.values, GREY[[2, 1, 0]].reshape(3, -1))
    assert "notes.txt" in data.notes[0]


def test_two_colours_palettes_and_opacity(tmp_path):
    (tmp_path / "two").mkdir()
    Image.fromarray(GREY[0] > 100).save(tmp_path / "two" / "a.png")
    Image.fromarray(GREY[1] > 100).save(tmp_path / "two" / "b.png")
    assert {*read(tmp_path / "two").values.flatten()} == {0.0, 255.0}
    (tmp_path / "p").mkdir()
    Image.fromarray(COLOUR[0]).convert("P").save(tmp_path / "p" / "a.png")
    Image.fromarray(COLOUR[1]).convert("RGBA").save(tmp_path / "p" / "b.png")
    data = read(tmp_path / "p")
    assert data.schema.shape == (3, 4, 3)
    assert any("opacity was left out of 'b.png'" in note for note in data.notes)
    (tmp_path / "deep").mkdir()
    Image.fromarray(GREY[0].astype(np.uint16) * 200).save(tmp_path / "deep" / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "deep").values[0], GREY[0].flatten().astype(float) * 200)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", r"b\.png: is not a PNG image"),
        (b"", r"b\.png: is not a PNG image"),
        ("cut", r"b\.png: cannot be read as an image, or is damaged"),
        ("jpeg", r"b\.png: is not a PNG image"),
        ("size", r"b\.png: grey of 2 × 4 pixels, where .*a\.png is grey of 3 × 4 pixels"),
        ("colour", r"b\.png: colour of 3 × 4 pixels, where"),
    ],
)
def test_files_that_cannot_be_rows_are_named(content, message, tmp_path):
    path = folder(tmp_path / "d", GREY[:1], ["a.png"])
    if content == "cut":
        big = np.random.default_rng(0).integers(0, 256, (90, 90)).astype(np.uint8)
        Image.fromarray(big).save(path / "b.png")
        (path / "b.png").write_bytes((path / "b.png").read_bytes()[:3000])
    elif content == "jpeg":
        Image.fromarray(GREY[0]).save(path / "b.png", format="JPEG")
    elif content == "size":
        Image.fromarray(GREY[0][:2]).save(path / "b.png")
    elif content == "colour":
        Image.fromarray(COLOUR[0]).save(path / "b.png")
    else:
        (path / "b.png").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(DataError, match=r"is a directory without \.png images \(it is empty\)"):
        read(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match=r"\(it has 'a\.csv'\); name a file in it"):
        read(tmp_path)


def test_images_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="too many pixels"):
            read(folder(tmp_path / "d", GREY))


def test_images_of_more_pixels_than_columns_can_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MOST_COLUMNS", 11)
    for data in (folder(tmp_path / "d", GREY), GREY):
        with pytest.raises(DataError, match="a row of 12 numbers.*there can be 11"):
            read(data)


def test_ten_thousand_images_are_read_quickly():
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28)).astype(np.uint8)
    began = time.perf_counter()
    assert read(images).rows == 10_000
    assert time.perf_counter() - began < 5  # 0.2 s on a quiet machine
