"""The decoders that every test of one is run on."""

from hw.architecture import parse_architecture

ARCHITECTURES = [
    parse_architecture(text)
    for text in (
        "tables:4",
        "tables:2,levels=2",
        "tables:3,flow=credit",
        "tables:6,levels=3",
        "tree",
        "tree,levels=2,flow=credit",
        "shared:3",
        "shared:7,inputs=4,levels=2",
        "shared:5,inputs=1,flow=credit",
    )
]
