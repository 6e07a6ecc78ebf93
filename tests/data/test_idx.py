"""IDX files: round trips, damage of every kind, and the real MNIST."""

import gzip
import hashlib
import json
import os
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featcore.data import idx, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 3, 2), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def encode(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content, zipped=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


def write_split(folder, prefix="train", *, mark="-", end="", images=IMAGES, labels=LABELS):
    write(folder / f"{prefix}-images{mark}idx3-ubyte{end}", encode(images), end == ".gz")
    write(folder / f"{prefix}-labels{mark}idx1-ubyte{end}", encode(labels), end == ".gz")


def check_pair(data, first=1, second=0, images=IMAGES, labels=LABELS):
    chosen = np.isin(labels, (first, second))
    np.testing.assert_array_equal(data.x, images[chosen].reshape(chosen.sum(), -1) / 255)
    np.testing.assert_array_equal(data.y, np.where(labels[chosen] == first, 1.0, -1.0))


# --- read_idx -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0))
    ),
    zipped=st.booleans(),
)
def test_round_trip(scratch, array, zipped):
    result = read_idx(write(scratch, encode(array), zipped))
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("zipped", [False, True])
def test_every_truncation_is_seen(scratch, zipped):
    whole = encode(np.arange(6, dtype=np.int16).reshape(2, 3))
    stored = gzip.compress(whole) if zipped else whole
    for length in range(len(stored)):
        write(scratch, stored[:length])
        with pytest.raises(ValueError, match=re.escape(str(scratch))):
            read_idx(scratch)


def test_a_truncated_file_says_what_is_missing(scratch):
    write(scratch, encode(IMAGES)[:-5])
    with pytest.raises(ValueError, match=r"shape \(40, 3, 2\), 240 bytes, but only 235 follow"):
        read_idx(scratch)


@pytest.mark.parametrize("zipped", [False, True])
def test_trailing_bytes_are_refused(scratch, zipped):
    write(scratch, encode(IMAGES) + b"\0", zipped)
    with pytest.raises(ValueError, match="goes on after the 240 bytes"):
        read_idx(scratch)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\x89PNG", b"\0\0\x07\x01", b"\0\x01\x08\x01", b"<html>"]
)
def test_other_files_are_refused(scratch, content):
    write(scratch, content)
    with pytest.raises(ValueError, match=r"is not an IDX file.*check what was downloaded"):
        read_idx(scratch)


def test_a_short_header_is_refused(scratch):
    write(scratch, b"\0\0\x08\x03" + bytes(11))
    with pytest.raises(ValueError, match="ends within its header of 3 axes"):
        read_idx(scratch)


@pytest.mark.parametrize("position", range(-8, 0))  # CRC-32 and length close a gzip file
def test_a_wrong_gzip_checksum_is_seen(scratch, position):
    stored = bytearray(gzip.compress(encode(IMAGES)))
    stored[position] ^= 1
    write(scratch, bytes(stored))
    with pytest.raises(ValueError, match=r"damaged gzip file \(.*download it again"):
        read_idx(scratch)


def test_damaged_gzip_data_are_seen(scratch):
    stored = bytearray(gzip.compress(encode(IMAGES)))
    stored[10] = 0x07  # the first block gets a type that does not exist
    write(scratch, bytes(stored))
    with pytest.raises(ValueError, match="damaged gzip file"):
        read_idx(scratch)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_gigantic_header_allocates_nothing(scratch, zipped):
    write(scratch, b"\0\0\x0e\x03" + b"\xff" * 12 + bytes(100), zipped)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"truncated.*but only 100 follow"):
            read_idx(scratch)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"7",  # one entry, but more axes than numpy has
        b"\0\0\x08\x04" + bytes(4) + b"\xff" * 12,  # no entry, but an impossible shape
    ],
)
def test_shapes_beyond_numpy_are_refused(scratch, content):
    write(scratch, content)
    with pytest.raises(ValueError, match="which numpy cannot hold"):
        read_idx(scratch)


@given(content=st.binary(max_size=40))
def test_no_bytes_crash_the_reader(scratch, content):
    write(scratch, b"\0\0" + content)
    try:
        array = read_idx(scratch)
    except ValueError as error:
        assert str(scratch) in str(error)  # noqa: PT017
    else:
        assert encode(array) == b"\0\0" + content


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_idx(tmp_path / "nothing")


# --- idx ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_every_layout_is_found(tmp_path, place, mark, end):
    write_split(tmp_path / place, mark=mark, end=end)
    check_pair(idx(tmp_path, center=False))


def test_keras_archive(tmp_path):
    test = IMAGES[:12] // 2, LABELS[:12]
    np.savez(tmp_path / "mnist.npz", x_train=IMAGES, y_train=LABELS, x_test=test[0], y_test=test[1])
    check_pair(idx(tmp_path, center=False))
    data = idx(tmp_path, (2, 3), split="test", center=False)
    check_pair(data, 2, 3, *test)
    assert data.provenance["split"] == "test"
    assert list(data.provenance["sha256"]) == ["mnist.npz"]


def test_splits(tmp_path):
    write_split(tmp_path, "t10k", end=".gz")
    assert idx(tmp_path).provenance["split"] == "test"
    with pytest.raises(FileNotFoundError, match=r"no train set \(only test\); put there train-im"):
        idx(tmp_path, split="train")
    write_split(tmp_path, "train", images=IMAGES[:8], labels=LABELS[:8])
    assert idx(tmp_path).provenance["split"] == "train"
    assert idx(tmp_path).n == 4
    assert idx(tmp_path, split="test").n == 20


def test_a_raw_file_goes_before_its_gzip(tmp_path):
    write_split(tmp_path, end=".gz", images=IMAGES * 0)
    write_split(tmp_path)
    check_pair(idx(tmp_path, center=False))


@pytest.mark.parametrize("classes", [(1, 0), (0, 1), (3, 2)])
def test_the_first_class_is_positive(tmp_path, classes):
    write_split(tmp_path)
    check_pair(idx(tmp_path, classes, center=False), *classes)


def test_centre_limit_and_dtype(tmp_path):
    write_split(tmp_path)
    plain = idx(tmp_path, center=False, limit=7)
    data = idx(tmp_path, limit=7)
    np.testing.assert_array_equal(plain.x, idx(tmp_path, center=False).x[:7])
    np.testing.assert_allclose(data.x, plain.x - plain.x.mean(axis=0), atol=1e-16)
    assert idx(tmp_path, limit=1000).n == 20
    single = idx(tmp_path, limit=7, dtype=np.float32)
    assert single.sha256() == data.astype(np.float32).sha256()


def test_provenance_names_files_and_hashes(tmp_path):
    write_split(tmp_path)
    record = json.loads(json.dumps(dict(idx(tmp_path, limit=5).provenance)))
    assert record["sha256"] == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    }
    assert record["classes"] == [1, 0]
    assert (record["center"], record["limit"]) == (True, 5)
    assert record["image_shape"] == [3, 2]
    assert record["images_sha256"] == hashlib.sha256(encode(IMAGES)).hexdigest()


def test_the_hash_of_the_images_does_not_depend_on_how_they_are_stored(tmp_path):
    hashes = set()
    for place, end in (("raw", ""), ("gz", ".gz")):
        write_split(tmp_path / place, end=end)
        for limit in (None, 3):
            hashes.add(idx(tmp_path / place, limit=limit).provenance["images_sha256"])
    np.savez(tmp_path / "mnist.npz", x_train=np.asfortranarray(IMAGES), y_train=LABELS)
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    hashes.add(idx(tmp_path, (2, 3)).provenance["images_sha256"])
    assert len(hashes) == 1


def test_no_images_at_all(tmp_path):
    write_split(tmp_path, images=IMAGES[:0], labels=LABELS[:0])
    with pytest.raises(ValueError, match=r"classes=\(1, 0\) has 1, but the data have only"):
        idx(tmp_path)


def test_counts_must_agree(tmp_path):
    write_split(tmp_path, labels=LABELS[:-1])
    with pytest.raises(ValueError, match=r"has 40 images but .*labels-idx1-ubyte has 39 labels"):
        idx(tmp_path)


def test_labels_in_the_place_of_images(tmp_path):
    write_split(tmp_path, images=LABELS)
    with pytest.raises(
        ValueError, match=r"train-images.* of shape \(40,\), not images.*right names"
    ):
        idx(tmp_path)


def test_images_in_the_place_of_labels(tmp_path):
    write_split(tmp_path, labels=IMAGES)
    with pytest.raises(ValueError, match=r"train-labels.*shape \(40, 3, 2\), not labels"):
        idx(tmp_path)


def test_pixels_must_be_bytes(tmp_path):
    write_split(tmp_path, images=IMAGES.astype(np.float32))
    with pytest.raises(ValueError, match=r"train-images.* holds float32"):
        idx(tmp_path)


@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_a_file_without_partner(tmp_path, kind):
    write_split(tmp_path)
    (tmp_path / f"train-{kind}-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no partner; .* side by side"):
        idx(tmp_path)


def test_two_data_sets_in_a_folder(tmp_path):
    write_split(tmp_path / "MNIST/raw")
    write_split(tmp_path / "FashionMNIST/raw")
    with pytest.raises(ValueError, match=r"holds several data sets; pass one of .*Fashion"):
        idx(tmp_path)
    check_pair(idx(tmp_path / "MNIST", center=False))
    write_split(tmp_path, images=IMAGES // 2)
    check_pair(idx(tmp_path, center=False), images=IMAGES // 2)  # the folder itself goes first


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train or test set; put there .* mnist\.npz"):
        idx(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder='.*nowhere' is not a folder"):
        idx(tmp_path / "nowhere")


def test_damaged_archives(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=IMAGES, y_train=LABELS)
    with pytest.raises(ValueError, match=r"mnist\.npz.*has no x_test and no y_test"):
        idx(tmp_path, split="test")
    stored = path.read_bytes()
    damaged = bytearray(stored)
    damaged[200] ^= 1
    for content in (stored[:100], b"", b"\x93NUMPY", bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mnist\.npz cannot be read .*download it again"):
            idx(tmp_path)
    np.savez(path, x_train=np.array([{}], dtype=object), y_train=LABELS)
    with pytest.raises(ValueError, match=r"mnist\.npz cannot be read .*allow_pickle"):
        idx(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x_train.npy", "y_train.npy"):
            with archive.open(name, "w") as file:
                shape = {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
                np.lib.format.write_array_header_1_0(file, shape)
    with pytest.raises(ValueError, match=r"mnist\.npz cannot be read .*download it again"):
        idx(tmp_path)
    np.savez(path, x_train=IMAGES, y_train=LABELS[:-1])
    with pytest.raises(ValueError, match=r"mnist\.npz\[x_train\] has 40 images"):
        idx(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"classes": (1, 9)}, ValueError, r"classes=\(1, 9\) has 9, but .* only: 0, 1, 2, 3"),
        ({"classes": (1, 256)}, ValueError, r"classes\[1\]=256"),
        ({"classes": (2, 2)}, ValueError, "two different"),
        ({"split": "valid"}, ValueError, "split='valid' is unknown"),
        ({"limit": 0}, ValueError, "limit=0 must be at least 1"),
        ({"dtype": np.float16}, TypeError, "dtype=float16"),
    ],
)
def test_bad_input_is_named(tmp_path, change, error, message):
    write_split(tmp_path)
    with pytest.raises(error, match=message):
        idx(tmp_path, **change)


# --- the real files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist():
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("FEATCORE_MNIST", root.parent / "shared" / "data" / "mnist"))
    if not folder.is_dir():
        pytest.skip(f"no MNIST in {folder}; set FEATCORE_MNIST")
    return folder


@pytest.mark.mnist
def test_mnist_ones_and_zeros(mnist):
    data = idx(mnist, classes=(1, 0), split="test", center=False)
    assert (data.n, data.d) == (2115, 784)
    assert (data.y > 0).sum() == 1135
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    assert data.provenance["image_shape"] == [28, 28]
    # A one has less ink than a zero.
    ink = data.x.sum(axis=1)
    assert ink[data.y > 0].mean() < 0.6 * ink[data.y < 0].mean()


@pytest.mark.mnist
def test_mnist_centred_classes_are_opposite(mnist):
    data = idx(mnist, split="test")
    np.testing.assert_allclose(data.x.mean(axis=0), 0.0, atol=1e-12)
    # The sums over the two classes cancel: x_+ = -x_- in the words of early alignment.
    np.testing.assert_allclose(
        data.x[data.y > 0].sum(axis=0), -data.x[data.y < 0].sum(axis=0), atol=1e-9
    )
