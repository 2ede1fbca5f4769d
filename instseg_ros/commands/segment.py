"""``instseg segment``: image files in, labels and pictures out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import add_common_arguments
from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ..frame import Frame
    from ..instances import Instances

HELP = """Segment image files: images of BOP scenes, or depth as 16-bit PNG or NPY.

Writes for each file NAME_labels.png (16-bit, 0 = background), NAME_overlay.png and NAME.json (centroid in metres in the
camera frame, covariance, score, order), and NAME_layer1.png … for models that see hidden parts."""
EXAMPLE = """instseg segment depth_0.png --model clusternet-bin --intrinsics 615,615,320,240 --out segmented
  instseg segment data/part/train/000000/depth/00000[01].png --model models/part3d --fuse --out segmented"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="depth PNG or NPY, or an image of a BOP scene (its camera is found)")
    parser.add_argument("--model", metavar="DIR", required=True, help="model directory, or the name of a shipped model")
    parser.add_argument("--amodal-model", metavar="DIR", help="layered model that says what is hidden of the parts that --model finds")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--intrinsics", metavar="FX,FY,CX,CY", help="camera of depth files, pixels")
    parser.add_argument("--depth-scale", type=float, metavar="S", help="metres a unit (default: 0.001 for integers, 1 for floats)")
    parser.add_argument(
        "--color", metavar="FILE", action="append", default=[],
        help="colour image of the same view, once for each depth file in the same order",
    )  # fmt: skip
    parser.add_argument(
        "--explain", action="store_true",
        help="also write what the model believes: NAME_hallucinated.png, and every instance alone, NAME_single1.png … (insegan)",
    )  # fmt: skip
    parser.add_argument(
        "--fuse", action="store_true",
        help="the files are views of one pile that stands still: join their voxels by the poses in scene_camera.json; a part has the same "
        "label in all of them (mtml)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Segment every file; a file that cannot be used stops the command before anything of it is written."""
    import sys
    import time

    import numpy as np

    from ..depth_files import output_names, parse_intrinsics, read_frame, read_pose
    from ..methods.amodal import load_with_layers
    from ..resources import find_model

    if args.color and len(args.color) != len(args.files):
        raise InputError(f"--color is given {len(args.color)} times for {len(args.files)} files: give one for each file, or none")
    K = parse_intrinsics(args.intrinsics) if args.intrinsics else None
    names = output_names(args.files)
    amodal = find_model(args.amodal_model) if args.amodal_model else None
    segmenter = load_with_layers(find_model(args.model), amodal, args.device)
    explaining = segmenter.visible if args.amodal_model else segmenter
    if args.explain and not hasattr(explaining, "explain"):
        raise InputError(f"--explain: {args.model} ({segmenter.description}) renders no instances, an insegan model does: leave --explain out")
    if args.fuse and (args.amodal_model or not hasattr(segmenter, "segment_views")):
        raise InputError(f"--fuse: {segmenter.description} looks at each view alone, an mtml model joins them: leave --fuse out")
    poses = [read_pose(file) for file in args.files] if args.fuse else []
    images: list[dict[str, Any]] = []
    views = []
    for file, name, color in zip(args.files, names, args.color or [None] * len(names)):
        frame = read_frame(file, intrinsics=K, depth_scale=args.depth_scale, color=color)
        if segmenter.needs_color and frame.color is None:
            raise InputError(f"{args.model} needs colour, {file} has none: add --color FILE")
        if args.fuse:
            views.append((frame, poses[len(views)]))
            continue
        start = time.perf_counter()
        instances = segmenter.segment(frame)
        seconds = time.perf_counter() - start
        if complaint := segmenter.complaint(frame):
            print(f"instseg segment: {file}: {complaint}", file=sys.stderr)
        images.append({"file": str(file), "name": name, "seconds": seconds, **describe(instances)})
        save(Path(args.out), name, frame, instances, images[-1])
        if args.explain:
            for title, picture in explaining.explain(frame).items():
                write_png(Path(args.out) / f"{name}_{title}.png", gray(picture))
        print(f"{file}: {len(instances)} parts in {seconds:.3f} s → {Path(args.out) / name}_overlay.png")
    if args.fuse:
        start = time.perf_counter()
        answers = segmenter.segment_views(views)
        seconds = time.perf_counter() - start
        for file, name, (frame, _), instances in zip(args.files, names, views, answers):
            images.append({"file": str(file), "name": name, "seconds": seconds, **describe(instances)})
            save(Path(args.out), name, frame, instances, images[-1])
            print(f"{file}: {np.count_nonzero(instances.pixels)} of {len(instances)} parts → {Path(args.out) / name}_overlay.png")
    return {"model": Path(args.model).name, "out": args.out, "images": images}


def describe(instances: Instances) -> dict[str, Any]:
    """The instances as JSON-ready values, in the order of the labels."""
    from ..evaluation.evaluation import jsonable

    pixels = instances.pixels
    rows = [
        {
            "label": i + 1,
            "score": instances.score[i],
            "centroid_m": instances.centroid[i].tolist(),
            "covariance_m2": instances.covariance[i].tolist(),
            "visible_fraction": instances.visible_fraction[i],
            "depth_order": instances.depth_order[i],
            "pixels": pixels[i],
        }
        for i in range(len(instances))
    ]
    return jsonable({"size": list(instances.labels.shape), "instances": rows})


def save(out: Path, name: str, frame: Frame, instances: Instances, description: dict) -> None:
    """Write the files of one image."""
    from ..drawing import colorize_depth, draw_overlay
    from ..files import write_json

    background = frame.color if frame.color is not None else colorize_depth(frame.depth, gray=True)
    write_png(out / f"{name}_labels.png", instances.labels)
    write_png(out / f"{name}_overlay.png", draw_overlay(background, instances.labels, ids=True)[..., ::-1])
    for level, layer in enumerate(instances.layers[1:], 1):
        write_png(out / f"{name}_layer{level}.png", layer)
    write_json(out / f"{name}.json", description)


def gray(value: np.ndarray) -> np.ndarray:
    """Values (S, S) in [−1, 1] → (4 S, 4 S, 3) uint8, enlarged without smoothing; −1 is black."""
    import numpy as np

    pixels = ((np.clip(value, -1, 1) + 1) * 127.5).round().astype(np.uint8)
    return np.repeat(np.repeat(np.repeat(pixels[..., None], 4, 0), 4, 1), 3, 2)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) uint16 or (H, W, 3) uint8 BGR atomically."""
    import cv2
    import numpy as np

    from ..files import write_atomic

    _, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
    write_atomic(path, lambda temporary: temporary.write_bytes(png.tobytes()))
