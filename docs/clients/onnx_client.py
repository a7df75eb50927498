"""Predict images by an exported detector: python onnx_client.py detector.onnx image.png ...

Needs nothing but onnxruntime, numpy and pillow (`pip install onnxruntime numpy pillow`). Everything that turns pixels
into a score is inside of the file: no resize, no normalisation, no threshold has to be known here.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_pixels(path: Path) -> np.ndarray:
    """Return an image file as uint8 RGB (1, H, W, 3): upright, transparency over white."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))[None]


def save_heat_map(anomaly_map: np.ndarray, limits: tuple[float, float], size: tuple[int, int], path: Path) -> None:
    """Write a map as a grey image of the image's size: black is as usual, white as unusual as the limits say."""
    low, high = limits
    grey = np.clip((anomaly_map - low) / (high - low), 0, 1)
    Image.fromarray((255 * grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR).save(path)


def main() -> None:
    """Print score, threshold and decision of each image; with --maps, write its heat map too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--maps", type=Path, help="folder for heat maps")
    given = parser.parse_args()

    session = onnxruntime.InferenceSession(given.detector, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    threshold = float(about["kdad.threshold"])
    for path in given.images:
        pixels = read_pixels(path)
        score, *maps = session.run(None, {"image": pixels})
        decision = "anomalous" if score[0] > threshold else "normal"
        print(f"{path.name}\t{score[0]:.6g}\t{threshold:.6g}\t{decision}")
        if given.maps is not None and maps:
            given.maps.mkdir(parents=True, exist_ok=True)
            limits = tuple(float(limit) for limit in about["kdad.colour_limits"].split())
            save_heat_map(maps[0][0], limits, pixels.shape[2:0:-1], given.maps / f"{path.stem}.png")


if __name__ == "__main__":
    main()
