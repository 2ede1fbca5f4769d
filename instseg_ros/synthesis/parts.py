"""Ten industrial parts of the kinds that Insta-10 uses (InSeGAN, section 4 and Figure 5); the drawings are our own.

Sizes in millimetres, 45–85 mm over all. Every builder returns the solid and its convex collision pieces. Pieces cover the
solid; bores that no other part of the same kind can enter are filled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from manifold3d import Manifold

from ..errors import InputError
from .part import Part, Symmetries
from .solids import box, corners, cylinder, hexagon, ring, stack, surface, thread, union, wedges
from .symmetry import about

STEEL, BRASS, RUBBER, GREY, WHITE = (0.62, 0.63, 0.65), (0.71, 0.60, 0.33), (0.20, 0.20, 0.21), (0.45, 0.47, 0.50), (0.86, 0.86, 0.84)
MILLIMETRE = 1e-3
X, Z = (1, 0, 0), (0, 0, 1)


class Drawing(NamedTuple):
    """What a builder returns, in millimetres."""

    solid: Manifold
    pieces: list[Manifold]
    color: tuple[float, float, float]
    chiral: bool = False
    symmetries: Symmetries = Symmetries()


def nut() -> Drawing:
    """Hexagon nut M30 (ISO 4032: 46 across flats, 25.6 high), bore at the thread's minor diameter, countersunk."""
    body, bore = hexagon(46, 0, 25.6, chamfered=(0, 25.6)), 13.2
    countersinks = [cylinder(16.2, -0.2, 3, bore), cylinder(bore, 22.6, 25.8, 16.2)]
    return Drawing(body - union([cylinder(bore, -1, 27), *countersinks]), wedges(body, 6, bore), STEEL, symmetries=about(Z, 6, X))


def stopper() -> Drawing:
    """Conical rubber stopper with a pull flange and a neck."""
    frusta = stack([(19, 0), (20, 1.5), (20, 6), (12, 6), (12, 11), (17.5, 11), (12.5, 38), (9, 42), (3, 44)])
    return Drawing(union(frusta), frusta, RUBBER, symmetries=about(Z, None))


def rod() -> Drawing:
    """Plain cylinder, 30 × 42."""
    body = cylinder(15, 0, 42)
    return Drawing(body, [body], STEEL, symmetries=about(Z, None, X))


def bolt() -> Drawing:
    """Hexagon head bolt 20 × 60 with a coarse right-handed thread of pitch 5."""
    head, shank = hexagon(30, 0, 12.5, chamfered=(0,)), cylinder(10, 12.5, 32)
    tip = union([cylinder(10.2, 20, 70), cylinder(10.2, 70, 72.5, 7.7)])
    threaded = thread(10, 1.6, 5, 30, 72.5) ^ tip
    return Drawing(
        union([head, shank, threaded]), [head, cylinder(10, 12.5, 70.2), cylinder(10, 70.2, 72.5, 7.7)], STEEL, chiral=True
    )


def cone() -> Drawing:
    """Right circular cone, radius 18, height 48."""
    body = cylinder(18, 0, 48, 0)
    return Drawing(body, [body], GREY, symmetries=about(Z, None))


def connector() -> Drawing:
    """T-shaped pipe connector with collars: run 64 long, outer diameter 22, bore 14."""
    run = [cylinder(11, -32, 32), cylinder(14, -32, -22), cylinder(14, 22, 32)]
    branch = [cylinder(11, 0, 36), cylinder(14, 26, 36)]
    pieces = [p.rotate((0, 90, 0)) for p in run] + branch
    bores = [cylinder(7, -33, 33).rotate((0, 90, 0)), cylinder(7, 0, 37)]
    return Drawing(union(pieces) - union(bores), pieces, BRASS, symmetries=about(Z, 2))


def plug5() -> Drawing:
    """Five-pin mains plug: four round pins, a thicker earth pin and a keyway rib in the plane y, tapered handle."""
    body = stack([(9, 0), (13, 26), (18, 26), (18, 50)]) + [cylinder(20, 38, 44)]
    pins = [cylinder(2.4, 50, 66, segments=12).translate((0, 10.5, 0)).rotate((0, 0, 72 * k)) for k in range(1, 5)]
    earth = cylinder(3.4, 50, 68, segments=12).translate((0, 10.5, 0))
    key = box(5, 4, 30, 50, (0, -18.5))
    pieces = [*body, *pins, earth, key]
    return Drawing(union(pieces), pieces, WHITE)


def obj01() -> Drawing:
    """Lamp socket: contact end, cone, body with two ribs, collar with two lugs, blind mouth."""
    frusta = stack([(6, 0), (6, 4), (12, 4), (12, 14), (18, 20), (18, 40), (22, 40), (22, 48)])
    lugs = ring(box(7, 8, 40, 45, (0, 22)), 2)
    ribs = [cylinder(19, 25, 28), cylinder(19, 32, 35)]
    mouth = cylinder(11.5, 30, 49) - cylinder(4, 29, 36)
    pieces = [*frusta, *lugs]
    hulls = [*frusta[:-2], cylinder(19, 20, 40), frusta[-1], *lugs]
    return Drawing(union([*pieces, *ribs]) - mouth, hulls, WHITE, symmetries=about(Z, 2))


def obj05() -> Drawing:
    """Terminal block with three poles: screw holes on top, wire entries in front, two feet with a hole each."""
    base, tower = box(62, 34, 0, 14), box(62, 20, 14, 28, (0, 2))
    feet = [box(9, 16, 0, 5, (x, 0)) for x in (-35, 35)]
    screws = [cylinder(4, 18, 29).translate((x, 3, 0)) for x in (-20, 0, 20)]
    entries = [box(11, 9, 4, 11, (x, -14)) for x in (-20, 0, 20)]
    steps = [box(3, 22, 20, 29, (x, 2)) for x in (-10, 10)]
    holes = [cylinder(2.2, -1, 6, segments=16).translate((x, 0, 0)) for x in (-36, 36)]
    pieces = [base, tower, *feet]
    return Drawing(union(pieces) - union([*screws, *entries, *steps, *holes]), pieces, GREY)


def obj14() -> Drawing:
    """Round wall rosette: plate with two screw holes, a raised ring with two cable notches, a boss in the middle."""
    plate, boss = stack([(32, 0), (32, 5), (30.5, 7)]), cylinder(8, 7, 13)
    disc, inner, notch = cylinder(26, 7, 17), 19.0, box(9, 70, 9, 18)
    screws = [cylinder(2.5, -1, 8, segments=16).translate((x, 0, 0)) for x in (-13.5, 13.5)]
    solid = union([*plate, boss, disc - cylinder(inner, 6, 18)]) - union([*screws, notch - cylinder(10, 0, 20), cylinder(4, 9, 14)])
    walls = [wall - box(9, 70, 6, 18) for wall in wedges(disc, 8, inner, turn=0.0)]
    sills = [box(9, 8, 7, 9, (0, y)) ^ disc for y in (-22, 22)]
    return Drawing(solid, [*plate, boss, *walls, *sills], WHITE, symmetries=about(Z, 2))


PARTS: dict[str, Callable[[], Drawing]] = {
    "nut": nut,
    "stopper": stopper,
    "cylinder": rod,
    "bolt": bolt,
    "cone": cone,
    "connector": connector,
    "plug5": plug5,
    "obj01": obj01,
    "obj05": obj05,
    "obj14": obj14,
}
"""Name → builder, in the order of the paper's tables."""


@lru_cache(maxsize=None)
def load_part(name: str) -> Part:
    """One of the ten parts, built once per process.

    Raises:
        InputError: unknown name.
    """
    if name not in PARTS:
        raise InputError(f"unknown part {name!r}: choose {', '.join(PARTS)}, or give your own with --mesh FILE --units mm")
    drawing = PARTS[name]()
    vertices, faces = surface(drawing.solid)
    hulls = [corners(piece) * MILLIMETRE for piece in drawing.pieces]
    return Part.from_surface(
        name, vertices * MILLIMETRE, faces, hulls, chiral=drawing.chiral, color=drawing.color, symmetries=drawing.symmetries
    )
