"""Hiragana as Debian's Japanese fonts draw them: 46 classes; the fonts to test with are of other families."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from .fetch import DataError, RawFiles, debian_source
from .store import Parts

KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
# Their sounds, as KMNIST has them: few fonts of figures have the characters.
SOUNDS = "a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no "  # codespell:ignore te
SOUNDS += "ha hi fu he ho ma mi mu me mo ya yu yo ra ri ru re ro wa wo n"
NAMES = tuple(SOUNDS.split())
SIDE, FIGURE = 64, 46  # pixels of an image, and of the longer side of what is on it: as large a share as in MNIST
EM = 192  # pixels of a square of the font when it is drawn, before it is made smaller
FREETYPE = "2.14.3"  # drew what named.py has the facts of; others, such as 2.13.2, draw single pixels of some fonts differently
# The packages of Debian 12, their versions and SHA-256.
PACKAGES = """
fonts-aoyagi-kouzan-t 20160404-6 6e961f85ca7cd69e9357666db55f3409bea3619abc123cb3a168823e55a2a90d
fonts-aoyagi-soseki 20070207-17 d5d32b6d26155a5731c1a766d0e66ccd63778c5eebc955cf868a63b86c269585
fonts-kouzan-mouhitsu 20170411-3 924536ceff9359b99996e56cd24633df67d696a343ba46f9e3106e8cee228dbe
fonts-cherrybomb 3.00+dfsg-2 0af3a10a7484b93ddbb012bd81b1629ae4a00e6f337080daa37411dcdf5cecb9
fonts-dejima-mincho 227-16 c86e6a7e9e54708ea9c0daa9ca321746890ab6d7c08493de65f3b90d9fa9100d
fonts-dotgothic16 1.000-20210120-2 970fd4b56295b515788dfea8eb442e4fcffcdb57b03e80ffbcb2775f7b153dde
fonts-kiloji 1:2.1.0-25 d80100f41da216751b3d80a27dd573d12a5cde02d883d2867d866e6895527c6e
fonts-horai-umefont 670-5 1b1ed2bef53ff395439ce3999b8c28dc8b9bff9d4d0de31cc440a1f331b4a9b9
fonts-ipaexfont-gothic 00401-5 0e3d7f1f7449ca6424fbe52788dcfe69f65636a9641be1f7cc62bd6cc20f3fd8
fonts-ipafont-gothic 00303-23 5f8e0270654fec6577fffa96015067352440065c0b49bbc8b076745a6b4bf3d3
fonts-ipaexfont-mincho 00401-5 1165917e97744c542bc832fe4b46fc0d55b446543da6e6773ecc5d036162bccd
fonts-ipafont-mincho 00303-23 6a81c96987d37d48c4e09beb55c06396d1f385f46af86de7c1bd53a82a683c45
fonts-kanjistrokeorders 4.003~dfsg-1 e90f1f37f84c4741f1cba873fe0df000c3b2c9ad66e9b0a757096f73c8883045
fonts-konatu 20121218-11 72163bf8300a59c53438d510c564eb4c35439e6ac56bda2f5cc04052c9850a98
fonts-komatuna 20101113-15 d56eb2506ea24aeb85d1b4f299011fb6ab83ab4e23823b1b34cd041822b7ab58
fonts-migmix 20200307-1 5c23291d8c0306c20c3f7cc1edec4324edb8678537699c9a727011faa362626d
fonts-mmcedar 20101113a-5.1 787bfb2c243abef7bb46e1b4c95a5b1d7fe48d5e4f432c7cdcec00e8fa7321b2
fonts-mplus 063+git20221017+ds-1 d84cf5bc7ba7ff4cc95bc23177eb9354aae8d8965490059ef54b3951ba14f61b
fonts-misaki 20210505-1 8bb6ee999bbecf997e069dc62cea22a99b72853f3e96d851c8acd970f577296c
fonts-mona 1:2.90-1.1 c58ceae953dd26c2470b50a2b85dc3add8f64bb4e5092d3fcd02b1321817e2d6
fonts-morisawa-bizud-gothic 1.05-2 a2caf06e0523cdf2e104de25881b44b34650a73c69e09374183eec06a4f61498
fonts-morisawa-bizud-mincho 1.05-2 5485a86859483ffaa7d668ad024c6c088187d34e67cbf5faa9aed882bf45b43a
fonts-motoya-l-cedar 1.01-5 e107f9eca4c82752feed9917311a5dee8a98d7c762ca824d85b40cbf32e53cd1
fonts-motoya-l-maruberi 1.01-5 22af24c8dd84ace4709b4a8e899f81e8d290c0c36c0f43c49af2c185c9988c31
fonts-oradano-mincho-gsrr 0.2018-3 4394a54a57f99539d4d2de7aef8a71133ab3f65948ef71cd2fcec9e9fc652e3f
fonts-rampart 1.000-20210120-2 b89555111a11d3efe14fc9358cb6d96c18be1c22c4004f728264cb820c6b4a11
fonts-reggae 1.000-20210120-2 8fa9711914c8687397d795384b4a72bee33f22dfba8aed2ed84a5c3bf2b69f4f
fonts-rocknroll 1.000-20210120-2 4993542455f142a75ecd1838d769986993d2f56abd2cd79b189841079b1bbffe
fonts-sawarabi-gothic 20161015-4 2fe2add38a94ba26a86f18727583821201f8f46691ebb1c01e85b9f2b236cb96
fonts-sawarabi-mincho 20220815-1 a63cca0c7da5d6de86824060c79ee4628beea54f701a8f49196d73337d01d5e7
fonts-seto 6.20-8 1ce0b6124d635036d64462d7f0bece68d79608713a51d0664d4aa03da882fe2c
fonts-stick 1.000-20210120-2 ddc9236a7e4a3a6d029178d208093821510e61d7658fd3e1b716485a97df90f1
fonts-train 1.000-20210120-2 5f491b046bc5170bfbad9c685c8fddca204fe5f19716871f77cfea75d930f88a
fonts-yozvox-yozfont-antique 14.04-2 f3889c30d9f145f99d19e90ec35037657bbfba110df5130d8f8714cdeb7ed62f
fonts-yozvox-yozfont-cute 14.04-2 72e21f09324641c5be49164280bbf67cbddb7aa35dd031204a2515c5e2159ac1
fonts-yozvox-yozfont-standard-kana 14.04-2 c0de6df994d7a3c643dda676acee78f171d16bb028bc2acb93b6f5f5a68e28bb
fonts-yusei-magic 1.000-20210130-2 4030d34292e317ecc9dc10a68ae309a8c27ec93f256c058d248017b5051beede
"""
# Families of fonts, and their files. Fonts that share the outlines of their kana are of one family: all made from M+, for one.
# Left out are fonts of which four in five kana are near copies of another one's (Takao is IPA; widths, slants), and those
# without all kana.
FAMILIES = """
kouzan AoyagiKouzanT.ttf aoyagi-soseki.ttf kouzan-mouhitsu-gyosho.ttf
cherrybomb CherryBomb-Regular.otf
dejima dejima-mincho-r227.ttf
dotgothic16 DotGothic16-Regular.ttf
kiloji kiloji.ttf kiloji_b.ttf kiloji_d.ttf
ume-gothic ume-hgo4.ttf ume-hgo5.ttf ume-pgc4.ttf ume-pgc5.ttf ume-pgo4.ttf ume-pgo5.ttf ume-ugo4.ttf ume-ugo5.ttf
ume-mincho ume-pmo3.ttf ume-tmo3.ttf
ipa-gothic ipaexg.ttf ipag.ttf
ipa-mincho ipaexm.ttf ipam.ttf
kanjistrokeorders KanjiStrokeOrders_v4.003.ttf
konatu Konatu.ttf
mplus komatuna-p.ttf komatuna.ttf migmix-1m-bold.ttf migmix-1m-regular.ttf migmix-2m-bold.ttf migmix-2m-regular.ttf \
  MMCedar-P.ttf Mplus1-Black.otf Mplus1-Bold.otf Mplus1-ExtraBold.otf Mplus1-ExtraLight.otf Mplus1-Light.otf \
  Mplus1-Medium.otf Mplus1-Regular.otf Mplus1-SemiBold.otf Mplus1-Thin.otf Mplus2-Black.otf Mplus2-Bold.otf \
  Mplus2-ExtraBold.otf Mplus2-ExtraLight.otf Mplus2-Light.otf Mplus2-Medium.otf Mplus2-Regular.otf Mplus2-Thin.otf
misaki misaki_gothic.ttf misaki_gothic_2nd.ttf misaki_mincho.ttf
mona mona.ttf
bizud-gothic BIZUDGothic-Bold.ttf BIZUDGothic-Regular.ttf
bizud-mincho BIZUDMincho-Regular.ttf
motoya MTLc3m.ttf MTLmr3m.ttf
oradano OradanoGSRR.ttf
rampart RampartOne-Regular.ttf
reggae ReggaeOne-Regular.ttf
rocknroll RocknRollOne-Regular.ttf
sawarabi-gothic sawarabi-gothic-medium.ttf
sawarabi-mincho sawarabi-mincho-medium.ttf
seto setofont.ttf
stick Stick-Regular.ttf
train TrainOne-Regular.ttf
yozfont YOzBAF.ttf YOzRAF.ttf YOzBCF.ttf YOzRCF.ttf YOzBSF.ttf YOzRSF.ttf
yusei-magic YuseiMagic-Regular.ttf
"""
FONTS = {file: row.split()[0] for row in FAMILIES.strip().splitlines() for file in row.split()[1:]}
ROWS = [row.split() for row in PACKAGES.strip().splitlines()]
RAW = RawFiles(
    title="kana",
    folder="kana",
    sha256={f"{name}.deb": sha256 for name, _, sha256 in ROWS},
    sources={"Debian 12": debian_source(*(f"{name}={version}" for name, version, _ in ROWS))},
)


def kana(root: Path) -> Parts:
    """Drawings of 64 × 64 pixels, 46 for each font of FONTS. One font in five is to test with."""
    drawings = dict(_drawings(RAW.fetch(root)))
    tested = tested_fonts()
    x, x_test = (np.concatenate([drawings[file] for file in FONTS if (file in tested) == side]) for side in (False, True))
    y, y_test = (np.tile(np.arange(len(KANA)), len(part) // len(KANA)) for part in (x, x_test))
    return x, y, x_test, y_test, NAMES


def tested_fonts() -> set[str]:
    """The fonts to test with: whole families, drawn at random with seed 0, up to a fifth of the fonts."""
    fonts: set[str] = set()
    for family in np.random.default_rng(0).permutation(list(dict.fromkeys(FONTS.values()))):
        members = {file for file in FONTS if FONTS[file] == family}
        if len(fonts | members) <= len(FONTS) // 5:
            fonts |= members
    return fonts


def _drawings(packages: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The file of each font of FONTS in the `packages`, and its kana, as `draw` gives them."""
    for package in RAW.sha256:
        unpack = ["dpkg-deb", "--fsys-tarfile", str(packages / package)]
        with subprocess.Popen(unpack, stdout=subprocess.PIPE) as files, tarfile.open(fileobj=files.stdout, mode="r|") as archive:
            for member in archive:
                file = PurePosixPath(member.name).name
                if file in FONTS and (content := archive.extractfile(member)):
                    yield file, draw(content.read(), file)


def draw(content: bytes, file: str) -> np.ndarray:
    """The kana of a font, bytes (46, 64, 64), light on dark, all of one size. Raises DataError if FreeType can't draw them."""
    try:
        font = ImageFont.truetype(io.BytesIO(content), EM, layout_engine=ImageFont.Layout.BASIC)
        return np.stack([_figure(font, character) for character in KANA])
    except OSError as error:
        raise DataError(f"kana: FreeType {features.version('freetype2')} can't draw {file} ({error})") from None


def _figure(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    left, top, right, bottom = font.getbbox(character)
    ink = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), character, 255, font=font)
    ink = ink.crop(ink.getbbox())
    width, height = (max(1, round(pixels * FIGURE / max(ink.size))) for pixels in ink.size)
    image = Image.new("L", (SIDE, SIDE))
    image.paste(ink.resize((width, height), Image.Resampling.BILINEAR), ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(image)
