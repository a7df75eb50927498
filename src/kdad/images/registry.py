"""From parameters to the image set that they name."""

from functools import partial

from kdad.images.folder import CsvSet, FolderSet
from kdad.images.image_set import ImageSet
from kdad.images.prepared_set import PreparedSet
from kdad.images.published.cifar import CifarSet
from kdad.images.published.elpv import ElpvSet
from kdad.images.published.idx import DigitSet, IdxSet
from kdad.images.synthetic.contamination import ContaminatedSet
from kdad.images.synthetic.textures import TextureSet
from kdad.images.tiling import TiledSet
from kdad.images.united import UnitedSet, member_datasets
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore


def open_image_set(parameters: DatasetParameters, seed: int = 0, store: ContentStore | None = None) -> ImageSet:
    """Open the image set that `parameters` name; raises `InputError` when there is none to open.

    `seed` is the run's: the range of wide pixel values is that of the images that train, and of none that is held out.
    With a `store` files are decoded once, by whichever run or step asks first.
    """
    if parameters.is_united:
        members = [open_image_set(member, seed, store) for member in member_datasets(parameters)]
        united = UnitedSet(members, parameters)
        united.root = parameters.origin
        return united
    sets = {
        "textures": TextureSet,
        "digits": DigitSet,
        "folder": partial(FolderSet, seed=seed),
        "csv": partial(CsvSet, seed=seed),
        "elpv": ElpvSet,
        "mnist": IdxSet,
        "fashion_mnist": IdxSet,
        "cifar10": CifarSet,
    }
    images = sets[parameters.name](parameters)
    if parameters.tiles is not None:
        images = TiledSet(images, parameters.tiles)
    if store is not None and images.is_slow:
        images = PreparedSet(images, store)
    if parameters.contamination:
        images = ContaminatedSet(images, parameters, seed)
    images.root = parameters.origin
    return images
