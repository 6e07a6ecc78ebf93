"""IDX files, the format of MNIST and its family."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featcore._validation import choice, integer
from featcore.data._images import class_pair, two_classes
from featcore.data.dataset import Dataset

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20

_PREFIXES = {"train": "train", "test": "t10k"}
_PLACES = (".", "raw", "MNIST/raw", "FashionMNIST/raw")
_ARCHIVE = "mnist.npz"


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array of an IDX file, gzipped or raw, in native byte order.

    All six types and any number of axes are read. Memory follows the bytes that are there, never
    the sizes a header claims.

    Parameters
    ----------
    path : path-like
        Whether it is gzipped is told by its content, not by its name.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not an IDX file, is shorter or longer than its header says, or is a damaged gzip.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import featcore as fc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     fc.data.read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    with path.open("rb") as probe:
        zipped = probe.read(2) == _GZIP_MAGIC
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            return _parse(path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); download it again") from error


def idx(
    folder: str | os.PathLike[str],
    classes: Sequence[int] = (1, 0),
    *,
    split: str | None = None,
    center: bool = True,
    limit: int | None = None,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return two classes of an MNIST-like data set found in `folder`.

    Found are ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` (the test set has ``t10k``
    for ``train``), also with a dot (``train-images.idx3-ubyte``) and with ``.gz``, in the folder
    itself or in ``raw``, ``MNIST/raw`` or ``FashionMNIST/raw`` below it (torchvision), and Keras'
    ``mnist.npz``.

    Parameters
    ----------
    folder : path-like
        Where to look.
    classes : pair of int
        Two different labels; the first becomes +1, the second -1.
    split : {"train", "test"}, optional
        None takes the training set if it is there, else the test set; the provenance says which.
    center : bool
        Subtract the mean over the chosen images; before that, pixels are in [0, 1]. To centre a
        test set by the mean of the training set, load both with False and subtract by hand.
    limit : int, optional
        Keep only the first images of the pair, at most this many.
    dtype : float64 or float32
        Computed in float64 and rounded.

    Returns
    -------
    Dataset
        Images in the order of the file, flattened. The provenance holds the shape of an
        image, the SHA-256 of the files, and that of all images as an uncompressed IDX file: the
        same for one data set, whether raw, gzipped or Keras'.

    Raises
    ------
    FileNotFoundError
        If the files are not there; the message says what was looked for.
    TypeError, ValueError
        For arguments out of range, an absent class, a folder with several data sets, and damaged
        or mismatched files.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.idx("mnist", classes=(1, 0), split="test")  # doctest: +SKIP
    Dataset(n=2115, d=784, float64)
    """
    pair = class_pair(classes, most=255)
    if split is not None:
        choice("split", split, _PREFIXES)
    if limit is not None:
        limit = integer("limit", limit, least=1)
    split, files = _find(Path(folder), split)
    images, labels = _read_archive(files[0], split) if len(files) == 1 else _read_pair(*files)
    digests = {}
    for path in files:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return two_classes(
        images,
        labels,
        pair,
        white=255.0,
        center=center,
        limit=limit,
        dtype=dtype,
        provenance={
            "generator": "idx",
            "folder": str(folder),
            "split": split,
            "sha256": digests,
            "images_sha256": _images_sha256(images),
        },
    )


def _images_sha256(images: NDArray[Any]) -> str:
    """Return the SHA-256 of `images` as an uncompressed IDX file, however they are stored."""
    digest = hashlib.sha256(bytes([0, 0, 0x08, images.ndim]))
    digest.update(np.array(images.shape, dtype=">u4").tobytes())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _parse(path: Path, file: gzip.GzipFile | BufferedReader) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise ValueError(
            f"{path} is not an IDX file: it starts with the bytes {magic.hex(' ')!r}, not with "
            "00 00, a type code and the number of axes; check what was downloaded"
        )
    kind, ndim = np.dtype(_TYPES[magic[2]]), magic[3]
    header = file.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise ValueError(f"{path} ends within its header of {ndim} axes; download it again")
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    expected = math.prod(shape) * kind.itemsize
    content = bytearray()
    while len(content) < expected:
        chunk = file.read(min(_CHUNK, expected - len(content)))
        if not chunk:
            raise ValueError(
                f"{path} is truncated: its header gives the shape {shape}, {expected} bytes, but "
                f"only {len(content)} follow; download it again"
            )
        content += chunk
    if file.read(1):  # also makes gzip verify its checksum
        raise ValueError(
            f"{path} goes on after the {expected} bytes of its shape {shape}; download it again"
        )
    try:
        array = np.frombuffer(content, dtype=kind).reshape(shape)
    except ValueError as error:  # too many axes, or an empty axis beside huge ones
        raise ValueError(f"{path} has the shape {shape}, which numpy cannot hold") from error
    return array.astype(kind.newbyteorder("="), copy=False)


def _find(folder: Path, split: str | None) -> tuple[str, tuple[Path, ...]]:
    """Return the split and its files: (images, labels), or one Keras archive."""
    if not folder.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is not a folder; pass one with IDX files")
    homes = [home for place in _PLACES if _splits(home := folder / place)]
    if len(homes) > 1 and homes[0] != folder:
        raise ValueError(
            f"folder={str(folder)!r} holds several data sets; pass one of "
            + ", ".join(repr(str(home)) for home in homes)
        )
    found = _splits(homes[0]) if homes else {}
    if not found or (split is not None and split not in found):
        prefix = _PREFIXES[split or "train"]
        raise FileNotFoundError(
            f"folder={str(folder)!r} has no {split or 'train or test'} set"
            + (f" (only {', '.join(found)})" if found else "")
            + f"; put there {prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte, raw or .gz, "
            f"or Keras' {_ARCHIVE}"
        )
    split = split or next(iter(found))
    files = found[split]
    if len(files) == 1 and files[0].name != _ARCHIVE:
        raise FileNotFoundError(
            f"{files[0]} has no partner; {_PREFIXES[split]}-images-idx3-ubyte and "
            f"{_PREFIXES[split]}-labels-idx1-ubyte must lie side by side"
        )
    return split, files


def _splits(home: Path) -> dict[str, tuple[Path, ...]]:
    found = {}
    for split, prefix in _PREFIXES.items():
        pair = (_first(home, f"{prefix}-images", 3), _first(home, f"{prefix}-labels", 1))
        files = tuple(path for path in pair if path is not None)
        if files:
            found[split] = files
    if not found and (home / _ARCHIVE).is_file():
        return dict.fromkeys(_PREFIXES, (home / _ARCHIVE,))
    return found


def _first(home: Path, stem: str, ndim: int) -> Path | None:
    names = (f"{stem}{mark}idx{ndim}-ubyte{end}" for mark in "-." for end in ("", ".gz"))
    return next((home / name for name in names if (home / name).is_file()), None)


def _read_pair(images_path: Path, labels_path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    _check(images, labels, str(images_path), str(labels_path))
    return images, labels


def _read_archive(path: Path, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    names = f"x_{split}", f"y_{split}"
    try:
        with zipfile.ZipFile(path):  # np.load would take other formats, too
            pass
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ValueError(f"it has no {' and no '.join(missing)}")
            images, labels = archive[names[0]], archive[names[1]]
    except (ValueError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as Keras' {_ARCHIVE} ({error}); download it again"
        ) from error
    _check(images, labels, f"{path}[{names[0]}]", f"{path}[{names[1]}]")
    return images, labels


def _check(images: NDArray[Any], labels: NDArray[Any], images_name: str, labels_name: str) -> None:
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{images_name} holds {images.dtype} of shape {images.shape}, not images: uint8 of "
            "shape (n, height, width); check that the files have their right names"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{labels_name} holds {labels.dtype} of shape {labels.shape}, not labels: integers of "
            "shape (n,); check that the files have their right names"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{images_name} has {len(images)} images but {labels_name} has {len(labels)} labels; "
            "take both from the same data set"
        )
