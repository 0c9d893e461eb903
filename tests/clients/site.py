"""Makes the folder that tests/clients/run.sh serves: `python3 site.py FOLDER`.

All content is computed, so that clients can check it. Nothing is downloaded.
"""

import base64
import hashlib
import os
import struct
import sys
import wave
import zipfile
import zlib

IMAGES = 200
BIG_BYTES = 20 * 1024 * 1024
SECONDS_OF_SOUND = 240


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def pattern(length):
    """Returns bytes that depend on their offset. The period of the block is prime, so any shift is visible."""
    block = bytes((at * 0x9E3779B97F4A7C15 >> 40) & 0xFF for at in range(65_521))
    return (block * (length // len(block) + 1))[:length]


def png(number):
    """Returns a picture of 8 by 8 pixels with a different colour for each number."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes([number, 255 - number, 128]) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")


def sound(path):
    """Writes a mono sound of 16 bits and 48,000 samples per second: 23 MB, more than a player fetches at once."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        second = b"".join(struct.pack("<h", (at * 440 * 2 % 48_000 - 24_000) // 4) for at in range(48_000))
        for _ in range(SECONDS_OF_SOUND):
            file.writeframes(second)


IMAGES_PAGE = """<!doctype html><meta charset="utf-8"><title>Images</title><link rel="icon" href="data:,">
{images}
<script>
addEventListener("load", () => {{
  const all = [...document.images];
  const good = all.filter((image) => image.complete && image.naturalWidth === 8).length;
  fetch("/report.txt?images=" + good);
}});
</script>
"""

SOUND_PAGE = """<!doctype html><meta charset="utf-8"><title>Sound</title><link rel="icon" href="data:,">
<audio id="audio" preload="metadata" src="tone.wav"></audio>
<script>
const audio = document.getElementById("audio");
const report = (what) => fetch("/report.txt?sound=" + what);
const places = [0.9, 0.3, 0.6];
let seeks = 0;
audio.onerror = () => report("error-" + audio.error.code);
audio.onloadedmetadata = () => { audio.currentTime = audio.duration * places[0]; };
audio.onseeked = () => {
  seeks += 1;
  if (seeks < places.length) audio.currentTime = audio.duration * places[seeks];
  else report(Math.round(audio.duration) + "-" + seeks);
};
</script>
"""


def wheel(folder):
    """Makes the smallest package that pip accepts, an index of it in pages, and one in plain listings."""
    name = "whirligig_tiny-1.0-py3-none-any.whl"
    os.makedirs(f"{folder}/wheels", exist_ok=True)
    path = f"{folder}/wheels/{name}"
    files = {
        "whirligig_tiny.py": "ANSWER = 42\n",
        "whirligig_tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: whirligig-tiny\nVersion: 1.0\n",
        "whirligig_tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{inner},sha256={digest},{len(text)}\n")
        record.append("whirligig_tiny-1.0.dist-info/RECORD,,\n")
        archive.writestr("whirligig_tiny-1.0.dist-info/RECORD", "".join(record))
    with open(path, "rb") as file:
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    link = f'<!doctype html><title>x</title><a href="../../wheels/{name}#sha256={digest}">{name}</a>\n'
    write(f"{folder}/simple/whirligig-tiny/index.html", link)
    write(f"{folder}/simple/index.html", '<!doctype html><title>x</title><a href="whirligig-tiny/">whirligig-tiny</a>\n')
    write(f"{folder}/listed/whirligig-tiny/{name}", content)


def main(folder):
    write(f"{folder}/hello.txt", "hello, world\n")
    write(f"{folder}/report.txt", "thank you\n")
    write(f"{folder}/big.bin", pattern(BIG_BYTES))
    for number in range(40):
        write(f"{folder}/tree/part {number % 4}/deeper/file-{number}.bin", pattern(number * 997))
    write(f"{folder}/tree/一个文件.txt", "one file\n")
    write(f"{folder}/tree/empty.txt", "")
    tags = []
    for number in range(IMAGES):
        write(f"{folder}/images/{number}.png", png(number))
        tags.append(f'<img src="{number}.png" alt="{number}">')
    write(f"{folder}/images/index.html", IMAGES_PAGE.format(images="\n".join(tags)))
    sound(f"{folder}/sound/tone.wav")
    write(f"{folder}/sound/index.html", SOUND_PAGE)
    wheel(folder)


main(sys.argv[1])
