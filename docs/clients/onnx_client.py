"""Predict images by an exported detector: python onnx_client.py detector.onnx image.png ...

Needs nothing but onnxruntime, numpy and pillow (`pip install onnxruntime numpy pillow`). Everything that turns pixels
into a score is inside of the file: no resize, no normalisation, no threshold has to be known here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

#: Pillow's decoders that a file may reach, whatever its name says.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF")


def read_pixels(path: Path, values: str) -> np.ndarray:
    """Return an image file as uint8 RGB (1, H, W, 3): upright, transparency over white.

    Raises ValueError for files of more than 8 bits: Pillow would clip them to white. `values` says what is taken.
    """
    image = ImageOps.exif_transpose(Image.open(path, formats=FORMATS))
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"holds values of more than 8 bits (mode {image.mode}), and the detector takes {values}")
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
    """Print score, threshold and decision of each image; with --maps, write its heat map too.

    What cannot be predicted is said on stderr, and the exit code is then 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--maps", type=Path, help="folder for heat maps")
    given = parser.parse_args()

    session = onnxruntime.InferenceSession(given.detector, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    if not about.get("kdad.threshold"):
        raise SystemExit(f"{given.detector}: has no threshold; set one with the pipeline 'calibration'")
    threshold, failed = float(about["kdad.threshold"]), False
    for path in given.images:
        try:
            pixels = read_pixels(path, about.get("kdad.values", "8-bit images"))
            score, *maps = session.run(None, {"image": pixels})
            if not all(np.isfinite(found).all() for found in (score, *maps)):
                raise ValueError("its score or map is not finite")
        except Exception as error:  # Pillow raises many kinds for damaged files
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        decision = "anomalous" if score[0] > threshold else "normal"
        print(f"{path.name}\t{score[0]:.6g}\t{threshold:.6g}\t{decision}")
        if given.maps is not None and maps:
            given.maps.mkdir(parents=True, exist_ok=True)
            limits = tuple(float(limit) for limit in about["kdad.colour_limits"].split())
            save_heat_map(maps[0][0], limits, pixels.shape[2:0:-1], given.maps / f"{path.stem}.png")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
