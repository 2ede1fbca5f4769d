"""Raw images from the compressed ones of a bag, as image_transport's republish node makes them."""

from __future__ import annotations

from typing import Any

from .. import images
from .reader import Bag, Message, typestore
from .topics import COMPRESSED, IMAGE

SUFFIXES = ("/compressedDepth", "/compressed")


def raw_topic(bag: Bag, topic: str) -> str | None:
    """The image topic that a compressed one stands for, where the bag does not have that, too; else None."""
    if bag.types.get(topic) != COMPRESSED:
        return None
    for suffix in SUFFIXES:
        if topic.endswith(suffix) and topic.removesuffix(suffix) not in bag.types:
            return topic.removesuffix(suffix)
    return None


def raw_image(bag: Bag, message: Message) -> bytes:
    """CDR bytes of the ``sensor_msgs/Image`` behind a compressed message, header kept. InputError for corrupt ones."""
    compressed: Any = bag.decode(message)
    if "compressedDepth" in compressed.format or message.topic.endswith("/compressedDepth"):
        metres = images.decode_compressed_depth(compressed.format, compressed.data)
        if compressed.format.startswith("32FC1"):
            fields = images.encode(metres, "32FC1")
        else:
            fields = images.encode(images.to_millimetres(metres), "16UC1")
    else:
        fields = images.encode(images.decode_compressed_color(compressed.format, compressed.data), "rgb8")
    image = typestore().types[IMAGE](header=compressed.header, **fields)
    return bytes(typestore().serialize_cdr(image, IMAGE))
