"""What grows or stands somewhere: the catalogue of covers with their calendars, leaves and radar constants.

A calendar holds key days of the reference climate (Flanders, see ``climate.py``), counted from 1 January of the harvest
year: negative in the autumn of sowing. Between them values run straight. For an annual crop the first key is
sowing, the last is harvest; what lasts has keys from day 1 to day 366.

Sowing, flowering and harvest follow the usual crop calendars (USDA/JRC MARS calendars, BBCH stages; Belgian
practice for the reference); green area index peaks are in the ranges of the literature (wheat 4-6, maize 4-5,
sugar beet 4-5, rapeseed 4-5, potato 4-5, deciduous wood 4-6; Asner et al. 2003, Global Ecol. Biogeogr. 12:191). The
radar constants give levels as published for Sentinel-1 (Veloso et al. 2017, Remote Sens. Environ. 199:415; Vreugdenhil
et al. 2018, Remote Sens. 10:1396). Every single number is judgement within those ranges, none is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Key day: day, green area index (m2/m2), cover of dry matter 0-1, cover of flowers 0-1, plant mass 0-1 for the radar.
Key = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class Cover:
    """One kind of land cover.

    Attributes:
        code: value in the label raster. name: for people. colour: red, green, blue 0-255.
        leaf: chlorophyll, water and dry matter, each relative to a common crop leaf, and the share of light that
            canopy structure leaves (1 = a flat canopy; crowns and needles throw shadow).
        dry: name in ``spectra.MATERIALS`` of its dry part. flower: of its flowers.
        ground: name of what is under it, "soil" for the field's own.
        radar: VV and VH of the full canopy (linear gamma0), attenuation of VV and VH by it (water-cloud model, two-way
            exponents).
        keys: the calendar.
        share: relative share among arable fields of the reference climate; 0 for what is not sown.
        warm: yearly mean temperature it likes best, degrees Celsius. width: how far from it it is still grown.
        hardy: 0-1, how little a hard winter takes of its green.
        mown: days on which it is cut. thirst: how much drought takes of its leaves, 0-1.
    """

    code: int
    name: str
    colour: tuple[int, int, int]
    leaf: tuple[float, float, float, float]
    dry: str
    ground: str
    radar: tuple[float, float, float, float]
    keys: tuple[Key, ...]
    share: float = 0.0
    warm: float = 11.0
    width: float = 5.0
    mown: tuple[int, ...] = ()
    thirst: float = 0.3
    hardy: float = 0.35
    flower: str = "flower"

    @property
    def annual(self) -> bool:
        """Whether it is sown and harvested."""
        return self.share > 0


def _always(lai: float, dry: float, mass: float) -> tuple[Key, ...]:
    return (1, lai, dry, 0.0, mass), (366, lai, dry, 0.0, mass)


def _later(keys: tuple[Key, ...], days: int, most: float = 1.0) -> tuple[Key, ...]:
    """The same calendar ``days`` later, leaves times ``most``."""
    return tuple((day + days, lai * most, dry, flower, mass) for day, lai, dry, flower, mass in keys)


_CEREAL: tuple[Key, ...] = (
    (-75, 0, .06, 0, 0), (-58, .05, .05, 0, 0), (-30, .3, .03, 0, .02), (15, .55, .02, 0, .05), (60, .75, .02, 0, .1),
    (85, 1.2, 0, 0, .2), (105, 2.9, 0, 0, .45), (128, 5.0, 0, 0, .85), (152, 4.9, 0, 0, 1.0), (170, 3.8, .08, 0, 1.0),
    (184, 1.6, .45, 0, .85), (195, .3, .82, 0, .65), (205, .08, .88, 0, .5), (214, .05, .88, 0, .45),
)  # fmt: skip
_SPRING: tuple[Key, ...] = (
    (75, 0, .03, 0, 0), (95, .1, .02, 0, 0), (115, 1.2, 0, 0, .12), (135, 3.6, 0, 0, .5), (158, 4.3, 0, 0, 1.0),
    (175, 3.3, .08, 0, 1.0), (190, 1.0, .55, 0, .8), (200, .2, .82, 0, .6), (211, .05, .86, 0, .5),
)  # fmt: skip
_MAIZE: tuple[Key, ...] = (
    (118, 0, .05, 0, 0), (138, .03, .04, 0, .01), (155, .35, .02, 0, .08), (172, 1.6, 0, 0, .35), (190, 3.6, 0, 0, .75),
    (210, 4.3, .01, .03, 1.0), (245, 3.8, .05, 0, 1.0), (262, 2.8, .22, 0, .95), (278, 1.3, .50, 0, .8),
    (284, .9, .58, 0, .75),
)  # fmt: skip
_BEET: tuple[Key, ...] = (
    (88, 0, .03, 0, 0), (108, .02, .02, 0, 0), (130, .25, .01, 0, .05), (150, 1.3, 0, 0, .3), (168, 3.6, 0, 0, .75),
    (190, 4.8, 0, 0, 1.0), (240, 4.3, .02, 0, 1.0), (285, 3.4, .04, 0, 1.0), (312, 2.8, .06, 0, .95),
)  # fmt: skip
_POTATO: tuple[Key, ...] = (
    (105, 0, .02, 0, 0), (135, .05, .01, 0, .02), (152, 1.1, 0, 0, .35), (170, 4.0, 0, .01, .9),
    (190, 4.6, 0, .04, 1.0),
    (220, 3.6, .06, 0, .9), (238, 2.0, .3, 0, .6), (250, .3, .45, 0, .2), (266, .05, .3, 0, .05),
)  # fmt: skip
_PEAS: tuple[Key, ...] = (
    (72, 0, .03, 0, 0), (98, .1, 0, 0, .03), (125, 2.2, 0, 0, .45), (148, 4.6, 0, .06, 1.0), (168, 4.0, .05, 0, 1.0),
    (184, 1.2, .5, 0, .6), (198, .1, .75, 0, .4),
)  # fmt: skip
_GRASS: tuple[Key, ...] = (
    (1, 2.4, .1, 0, .35), (70, 2.5, .1, 0, .38), (100, 2.9, .06, 0, .55), (130, 4.6, .02, .02, .95),
    (200, 3.6, .07, 0, .75), (240, 3.2, .10, 0, .65), (300, 3.0, .08, 0, .6), (340, 2.6, .09, 0, .42),
    (366, 2.4, .1, 0, .35),
)  # fmt: skip
_LEAVES: tuple[Key, ...] = (
    (1, .25, .62, 0, .95), (92, .25, .60, 0, .95), (108, 1.2, .4, 0, 1.0), (128, 4.4, .04, 0, 1.0),
    (160, 5.2, .02, 0, 1.0),
    (235, 4.6, .03, 0, 1.0), (272, 3.4, .12, 0, 1.0), (298, 1.8, .40, 0, .97), (320, .35, .62, 0, .95),
    (366, .25, .62, 0, .95),
)  # fmt: skip

# fmt: off
COVERS = (
    Cover(1, "winter wheat", (222, 184, 90), (1.05, .95, 1.0, .92), "straw", "soil", (.045, .015, 2.6, 1.3), _CEREAL,
          share=28, warm=10.5, width=4.5),
    Cover(2, "winter barley", (240, 214, 140), (.95, .95, 1.0, .92), "straw", "soil", (.048, .015, 2.4, 1.3), (
        (-95, 0, .06, 0, 0), (-78, .1, .04, 0, 0), (-45, .8, 0, 0, .06), (15, .95, .02, 0, .08), (58, 1.2, .02, 0, .15),
        (82, 2.4, 0, 0, .35), (105, 4.6, 0, 0, .9), (132, 4.8, 0, 0, 1.0), (150, 3.4, .1, 0, .95),
        (163, 1.0, .6, 0, .75), (173, .1, .88, 0, .6), (188, .05, .9, 0, .5)), share=10, warm=10.5),
    Cover(3, "rapeseed", (250, 230, 30), (1.0, 1.3, 1.0, 1.0), "straw", "soil", (.15, .052, 2.0, 1.7), (
        (-122, 0, .08, 0, 0), (-108, .1, .05, 0, .02), (-75, 1.6, 0, 0, .18), (-30, 2.2, .02, 0, .22),
        (45, 1.7, .05, 0, .2),
        (80, 2.6, 0, 0, .4), (103, 4.0, 0, .05, .7), (113, 3.6, 0, .42, .8), (128, 3.6, 0, .44, .9),
        (140, 4.2, 0, .06, 1.0), (165, 3.6, .05, 0, 1.0), (184, 1.2, .55, 0, .85), (196, .2, .82, 0, .7),
        (203, .1, .84, 0, .65)), share=9, warm=9.5, width=3.5, flower="rape flower"),
    Cover(4, "maize", (230, 130, 30), (1.1, 1.0, .95, .9), "stover", "soil", (.14, .033, 1.7, 1.5), _MAIZE,
          share=18, warm=12, width=4.5, thirst=.5),
    Cover(5, "sugar beet", (190, 80, 160), (.9, 1.6, .8, 1.08), "litter", "soil", (.19, .045, 1.7, 1.6), _BEET,
          share=8, warm=10, width=3, thirst=.4),
    Cover(6, "potato", (130, 60, 40), (.95, 1.4, .85, 1.06), "litter", "soil", (.20, .052, 1.7, 1.6), _POTATO,
          share=8, warm=9.5, width=3.5, thirst=.4),
    Cover(7, "meadow", (120, 200, 90), (.85, .9, 1.1, .88), "litter", "soil", (.095, .021, 1.9, 1.6), _GRASS,
          mown=(139, 186, 236, 278), thirst=.6),
    Cover(8, "pasture", (160, 220, 130), (.85, .9, 1.1, .86), "litter", "soil", (.09, .020, 1.9, 1.6), (
        (1, 2.1, .13, 0, .4), (80, 2.3, .12, 0, .42), (125, 3.0, .05, 0, .6), (185, 2.3, .12, 0, .5),
        (225, 2.0, .2, 0, .48), (270, 2.4, .1, 0, .52), (366, 2.1, .13, 0, .4)), thirst=.6),
    Cover(9, "broadleaved wood", (20, 120, 40), (1.05, 1.1, 1.1, .72), "twigs", "litter", (.14, .035, 3, 3), _LEAVES,
          thirst=.12, hardy=1),
    Cover(10, "coniferous wood", (0, 70, 50), (1.1, 1.3, 1.5, .42), "twigs", "litter", (.115, .027, 3, 3),
          ((1, 3.2, .06, 0, 1.0), (110, 3.2, .06, 0, 1.0), (165, 3.9, .03, 0, 1.0),
          (366, 3.2, .06, 0, 1.0)), thirst=.05, hardy=1),
    Cover(11, "water", (40, 90, 200), (1, 1, 1, 1), "water", "water", (.012, .0014, 9, 9), _always(0, 1, 1), hardy=1),
    Cover(12, "building", (200, 30, 40), (1, 1, 1, .8), "roof", "asphalt", (.42, .075, 9, 9), _always(.25, .72, 1),
          hardy=1),
    Cover(13, "road", (90, 90, 90), (1, 1, 1, 1), "asphalt", "asphalt", (.04, .007, 9, 9), _always(0, 1, 1), hardy=1),
    Cover(14, "garden", (180, 200, 60), (.95, 1, 1.1, .78), "asphalt", "asphalt", (.16, .035, 1.8, 1.8), (
        (1, 1.2, .3, 0, .8), (90, 1.4, .28, 0, .8), (130, 2.6, .2, 0, .9), (200, 2.3, .22, 0, .9),
        (270, 2.2, .22, 0, .9),
        (320, 1.4, .28, 0, .8), (366, 1.2, .3, 0, .8)), thirst=.3),
    Cover(15, "spring barley", (250, 225, 175), (.9, .9, 1.0, .92), "straw", "soil", (.05, .015, 2.3, 1.3), _SPRING,
          share=5, warm=8, width=3.5, thirst=.5),
    Cover(16, "oats", (205, 190, 120), (.95, 1, 1, .92), "straw", "soil", (.06, .018, 2.0, 1.3), _later(_SPRING, 6),
          share=2, warm=8, width=4, thirst=.5),
    Cover(17, "rye", (200, 170, 70),
        (1.0, .9, 1.05, .9), "straw", "soil", (.05, .016, 2.5, 1.4), _later(_CEREAL, -6, .9),
          share=2, warm=8.5, width=3),
    Cover(18, "durum wheat", (215, 160, 60), (.95, .85, 1.05, .92), "straw", "soil", (.048, .015, 2.4, 1.3),
          _later(_CEREAL, 6, .75), share=6, warm=15, width=2.5, thirst=.5),
    Cover(19, "sunflower", (255, 200, 0), (.95, 1.3, .9, 1.0), "stover", "soil", (.19, .046, 1.6, 1.6), (
        (105, 0, .04, 0, 0), (125, .05, .02, 0, .01), (145, .6, 0, 0, .12), (165, 2.4, 0, 0, .5),
        (184, 3.7, 0, .03, .9),
        (196, 3.4, 0, .2, 1.0), (208, 3.0, .04, .06, 1.0), (225, 2.0, .25, 0, .95), (242, .6, .6, 0, .8),
        (258, .15, .68, 0, .7)), share=7, warm=13.5, width=3, thirst=.5, flower="sun flower"),
    Cover(20, "soybean", (150, 170, 50), (1.05, 1.1, .9, 1.0), "litter", "soil", (.13, .030, 1.7, 1.6), (
        (125, 0, .04, 0, 0), (142, .08, .02, 0, .02), (165, 1.1, 0, 0, .25), (190, 4.0, 0, 0, .8),
        (220, 5.0, 0, 0, 1.0),
        (244, 4.0, .06, 0, 1.0), (260, 1.6, .45, 0, .7), (272, .2, .65, 0, .4)), share=5, warm=13, width=3, thirst=.5),
    Cover(21, "rice", (90, 200, 200), (.95, 1.0, 1.0, .95), "straw", "soil", (.09, .022, 1.5, 1.4), (
        (118, 0, .02, 0, 0), (140, .15, 0, 0, .03), (165, 1.6, 0, 0, .25), (190, 4.0, 0, 0, .7), (215, 4.8, 0, 0, 1.0),
        (240, 3.4, .15, 0, 1.0), (258, 1.4, .55, 0, .9),
        (268, .6, .75, 0, .8)), share=4, warm=15.5, width=1.8, thirst=0),
    Cover(22, "alfalfa", (70, 160, 120), (1.05, 1.1, .9, .98), "litter", "soil", (.12, .028, 1.7, 1.5), (
        (-100, 2.4, .04, 0, .5), (-45, 1.4, .1, 0, .3), (40, .9, .15, 0, .15), (80, 1.8, .04, 0, .3),
        (115, 4.2, 0, 0, .9),
        (135, 4.6, 0, .02, 1.0), (240, 3.8, .03, 0, .9), (264, 3.0, .04, 0, .6)), share=4, warm=12.5, width=4,
        mown=(138, 176, 214, 250), thirst=.25),
    Cover(23, "peas", (140, 230, 140), (.85, 1.2, .9, 1.0), "straw", "soil", (.13, .032, 1.8, 1.5), _PEAS,
          share=3, warm=9.5, width=4, thirst=.5),
    Cover(24, "faba beans", (90, 140, 90), (1.0, 1.4, .9, .98), "stover", "soil", (.15, .040, 1.8, 1.6),
          _later(_PEAS, 10, .95), share=2, warm=9.5, width=4, thirst=.5),
    Cover(25, "flax", (120, 130, 220), (.85, .9, 1.1, .92), "straw", "soil", (.06, .017, 2.2, 1.4), (
        (85, 0, .03, 0, 0), (105, .2, 0, 0, .03), (128, 2.3, 0, 0, .4), (150, 4.0, 0, 0, .9), (162, 3.6, 0, .22, 1.0),
        (174, 2.6, .15, 0, 1.0), (188, .8, .6, 0, .5), (200, .1, .8, 0, .15), (222, .05, .75, 0, .1)),
        share=2.5, warm=10, width=2, thirst=.4, flower="flax flower"),
    Cover(26, "vegetables", (230, 80, 120), (.85, 1.6, .8, 1.0), "litter", "soil", (.17, .040, 1.7, 1.6), (
        (95, 0, .02, 0, 0), (115, .5, 0, 0, .1), (138, 3.0, 0, 0, .7), (158, 3.4, 0, 0, .9), (165, .2, .1, 0, .05),
        (180, 0, .04, 0, 0), (195, .5, 0, 0, .1), (222, 3.2, 0, 0, .7), (270, 3.6, .02, 0, .95),
        (290, 2.8, .05, 0, .9)),
        share=5, warm=12, width=5, thirst=.1),
    Cover(27, "fallow", (190, 190, 150), (.75, .8, 1.2, .86), "litter", "soil", (.10, .022, 1.7, 1.5), (
        (-110, .6, .35, 0, .2), (-60, .9, .3, 0, .2), (60, .9, .28, 0, .2), (110, 1.8, .14, .02, .4),
        (150, 2.8, .12, .06, .7),
        (185, 1.7, .35, .02, .7), (225, .9, .5, 0, .6), (254, .7, .45, 0, .45)), share=4, mown=(196,), thirst=.7),
    Cover(28, "sorghum", (190, 100, 60), (1.0, .9, 1.0, .93), "stover", "soil", (.15, .034, 1.7, 1.5),
          _later(_MAIZE, 8, .85), share=2, warm=15, width=2.5, thirst=.25),
    Cover(29, "mixed wood", (15, 95, 50), (1.05, 1.15, 1.2, .57), "twigs", "litter", (.13, .031, 3, 3), (
        (1, 1.5, .3, 0, .98), (95, 1.5, .3, 0, .98), (130, 4.0, .04, 0, 1.0), (235, 4.2, .03, 0, 1.0),
        (285, 2.9, .14, 0, 1.0), (318, 1.6, .3, 0, .98), (366, 1.5, .3, 0, .98)), thirst=.1, hardy=1),
    Cover(30, "orchard", (220, 120, 150), (.95, 1.0, 1.1, .78), "twigs", "meadow", (.14, .034, 1.3, 1.4), (
        (1, 1.1, .3, 0, .7), (85, 1.2, .28, 0, .7), (104, 1.6, .16, .16, .75), (114, 1.9, .12, .06, .8),
        (140, 3.0, .04, 0, 1.0),
        (260, 2.8, .06, 0, 1.0), (310, 1.5, .24, 0, .75), (366, 1.1, .3, 0, .7)), thirst=.3, flower="fruit flower",
          hardy=1),
    Cover(31, "vineyard", (140, 40, 110), (.95, .9, 1.1, .8), "twigs", "soil", (.11, .024, 1.0, 1.0), (
        (1, .35, .18, 0, .4), (105, .5, .12, 0, .4), (130, .9, .08, 0, .5), (165, 1.9, .04, 0, .9),
        (240, 1.8, .06, 0, 1.0),
        (285, 1.1, .16, 0, .8), (315, .4, .2, 0, .4), (366, .35, .18, 0, .4)), thirst=.15, hardy=1),
    Cover(32, "olive grove", (130, 140, 90), (.8, .6, 1.6, .62), "litter", "soil", (.12, .028, .9, .9),
          ((1, 1.2, .1, 0, .9), (110, 1.5, .06, 0, .9), (180, 1.1, .2, 0, .9), (366, 1.2, .1, 0, .9)), thirst=.15,
          hardy=1),
    Cover(33, "wetland", (60, 150, 160), (.9, 1.0, 1.1, .8), "litter", "peat", (.13, .026, 1.8, 1.8), (
        (1, .3, .62, 0, .7), (105, .4, .58, 0, .65), (140, 2.0, .25, 0, .75), (185, 4.0, .08, 0, 1.0),
        (235, 3.5, .14, .03, 1.0),
        (285, 1.4, .45, 0, .9), (320, .5, .62, 0, .8), (366, .3, .62, 0, .7)), thirst=.05, hardy=1),
    Cover(34, "heath", (170, 90, 130), (.8, .7, 1.4, .6), "twigs", "soil", (.10, .022, 1.6, 1.6),
          ((1, 1.1, .3, 0, .9), (110, 1.2, .28, 0, .9), (160, 1.9, .16, 0, .95), (225, 1.7, .14, .12, .95),
           (275, 1.5, .25, 0, .9), (366, 1.1, .3, 0, .9)), thirst=.3, flower="flax flower", hardy=1),
    Cover(35, "quarry", (230, 230, 220), (1, 1, 1, 1), "gravel", "gravel", (.11, .014, .2, .2), _always(.02, .9, .3),
          hardy=1),
    Cover(36, "greenhouse", (220, 240, 250),
        (1, 1, 1, 1), "plastic", "asphalt", (.22, .022, 9, 9), _always(.3, .75, 1), hardy=1),
)
# fmt: on
BY_NAME = {cover.name: cover for cover in COVERS}
BY_CODE = {cover.code: cover for cover in COVERS}
MEADOW, PASTURE = BY_NAME["meadow"].code, BY_NAME["pasture"].code
BROADLEAVED, CONIFEROUS = BY_NAME["broadleaved wood"].code, BY_NAME["coniferous wood"].code
MIXED, WATER, BUILDING = BY_NAME["mixed wood"].code, BY_NAME["water"].code, BY_NAME["building"].code
ROAD, GARDEN, RICE = BY_NAME["road"].code, BY_NAME["garden"].code, BY_NAME["rice"].code
ORCHARD, VINEYARD, OLIVES = BY_NAME["orchard"].code, BY_NAME["vineyard"].code, BY_NAME["olive grove"].code
WETLAND, HEATH, QUARRY = BY_NAME["wetland"].code, BY_NAME["heath"].code, BY_NAME["quarry"].code
GREENHOUSE = BY_NAME["greenhouse"].code
#: What stands tall enough to throw shadow on itself.
TALL = (BROADLEAVED, CONIFEROUS, MIXED, BUILDING, ORCHARD, OLIVES)
#: Summer crops that are watered where a region irrigates.
WATERED = tuple(BY_NAME[name].code for name in ("maize", "soybean", "potato", "sugar beet", "alfalfa", "vegetables"))
