"""Classifies image files with an exported network, without PyTorch: python read_with_onnx.py model.onnx image.png …"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
contract = session.get_modelmeta().custom_metadata_map  # how it must be fed, in words
scale = json.loads(contract["scale"].split(":")[0])
side = int(contract.get("side", "28"))  # in pixels
for file in sys.argv[2:]:
    opened = Image.open(file)
    opened.draft("RGB", (4 * side, 4 * side))  # a JPEG is decoded at a fraction of its size
    image = ImageOps.exif_transpose(opened)
    if deep := image.mode[0] in "IF":  # more than 8 bits a pixel
        image = Image.fromarray(np.asarray(image, np.float32))
    else:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    size = [max(1, round(pixels * (side / max(image.size)))) for pixels in image.size]
    small = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    frame = np.empty((side, side, *small.shape[2:]), small.dtype)
    frame[:] = np.median(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]), axis=0)
    left, top = ((side - pixels) // 2 for pixels in size)
    frame[top : top + size[1], left : left + size[0]] = small
    if deep:
        low, high = scale or (frame.min(), frame.max())
        frame = (255 * (frame - low) / ((high - low) or 1)).round().clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(frame).convert("RGB" if contract["channels"] == "RGB" else "L")
    pixels = np.asarray(picture, np.float32).reshape(side, side, -1).transpose(2, 0, 1)[None] / 255
    (probabilities,) = session.run(None, {"pixels": pixels})[0]
    print(file, contract["classes"].split("\n")[probabilities.argmax()], f"{probabilities.max():.5f}", sep="\t")
