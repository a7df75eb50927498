"""From parameters to the image set that they name."""

from kdad.images.cifar import CifarSet
from kdad.images.contamination import ContaminatedSet
from kdad.images.digits import DigitSet
from kdad.images.elpv import ElpvSet
from kdad.images.folder import CsvSet, FolderSet
from kdad.images.idx_classes import IdxSet
from kdad.images.image_set import ImageSet
from kdad.images.textures import TextureSet
from kdad.images.tiled_set import TiledSet
from kdad.parameters.dataset import DatasetParameters


def open_image_set(parameters: DatasetParameters) -> ImageSet:
    """Open the image set that `parameters` name; raises `InputError` when there is none to open."""
    sets = {
        "textures": TextureSet,
        "digits": DigitSet,
        "folder": FolderSet,
        "csv": CsvSet,
        "elpv": ElpvSet,
        "mnist": IdxSet,
        "fashion_mnist": IdxSet,
        "cifar10": CifarSet,
    }
    images = sets[parameters.name](parameters)
    if parameters.tiles is not None:
        images = TiledSet(images, parameters.tiles)
    if parameters.contamination:
        images = ContaminatedSet(images, parameters)
    images.root = parameters.origin
    return images
