"""Classifies image files with an exported network, without PyTorch: python read_with_onnx.py model.onnx image.png …"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
contract = session.get_modelmeta().custom_metadata_map  # how it must be fed, in words
for file in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    size = [max(1, round(side * 28 / max(image.size))) for side in image.size]
    small = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    border = np.median(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]), axis=0).astype(np.uint8)
    frame = Image.new("RGB", (28, 28), tuple(border.tolist()))
    frame.paste(Image.fromarray(small), ((28 - size[0]) // 2, (28 - size[1]) // 2))
    frame = frame if contract["channels"] == "RGB" else frame.convert("L")
    pixels = np.asarray(frame, np.float32).reshape(28, 28, -1).transpose(2, 0, 1)[None] / 255
    (probabilities,) = session.run(None, {"pixels": pixels})[0]
    print(file, contract["classes"].split("\n")[probabilities.argmax()], f"{probabilities.max():.5f}", sep="\t")
