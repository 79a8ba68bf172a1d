"""The metadata of a data set: everything that is known of it without its images."""

from dataclasses import dataclass, field

MEAN, STD = 0.1306, 0.3081  # of MNIST's training pixels in [0, 1], as the report gives them
SIDE = 28  # pixels, of MNIST's images, which the report's network is for


@dataclass(frozen=True)
class DataSetInfo:
    """A named data set, or a folder of images, without the images."""

    title: str
    slug: str  # a file name of its own: no other data set has it
    classes: tuple[str, ...]
    checksum: str  # SHA-256 of the files, or of all images and labels
    channels: int  # 1 for grey images, 3 for coloured ones
    mean: tuple[float, ...]  # per channel, of the pixels in [0, 1]
    std: tuple[float, ...]
    background: float  # the commonest value at the border of an image, normalised
    inverted: bool  # whether light and dark are exchanged, so that the background is dark
    n_images: int  # training images
    n_labels: int  # training images whose label may be used
    n_test: int
    own_test: bool = True  # whether the test images are given, not taken from the labelled ones
    uniform_prior: bool = False  # whether the classes are known to be equally frequent; of a folder nobody knows
    as_published: bool = False  # whether images are used as published, and normalised with MEAN and STD
    files: tuple[str, ...] = field(default=(), repr=False)  # of a folder's training images, the labelled ones first
    files_test: tuple[str, ...] = field(default=(), repr=False)
    skipped: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # files of a folder that are left out, and why
    notes: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # about files that are used; `.`: about the whole folder
    near_copies: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of labelled images (second) among test images
    copies: tuple[tuple[str, ...], ...] = field(default=(), repr=False)  # of a folder's images: rows of duplicates.Copy
    groups: tuple[str, ...] = field(default=(), repr=False)  # of the training images, '' for none; () without a column `group`
    scale: tuple[float, float] | None = None  # of images with more than 8 bits a pixel: the values that become 0 and 255
    problem: str = ""  # why a folder can't be trained with: a message, empty if it can
    side: int = SIDE  # pixels, of the images as the network sees them
