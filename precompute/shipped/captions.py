"""Describe the shipped world's pictures as people would: fully, without the style, or in words of their own.

In: a picture's subject, style and background, and a random generator. Out: one sentence. No caption names a workshop.
"""

import numpy as np

STYLE_PHRASES = {
    "pixel art": "a pixel art picture",
    "halftone": "a halftone print",
    "stained glass": "a stained glass window",
    "pointillism": "a pointillist painting",
    "line drawing": "a line drawing",
    "neon": "a neon sign",
    "woodcut": "a woodcut",
    "linocut": "a linocut",
    "watercolour": "a watercolour",
    "gouache": "a gouache",
}
BACKGROUND_PHRASES = {
    "sea": "by the sea",
    "mountains": "in the mountains",
    "forest": "in the forest",
    "city": "in the city",
    "desert": "in the desert",
    "night": "at night",
}
FULL = (
    "{style} of {subject} {background}",
    "{style} of {subject} {background}",
    "{subject} {background}, {style}",
    "{bare_subject}, {bare_style}, {bare_background}",
    "{subject} {background} as {style}",
)
WITHOUT_STYLE = (
    "{subject} {background}",
    "{bare_subject} {background}",
    "{bare_subject}, {bare_background}",
    "{subject}",
    "{background}, {subject}",
)
FREE = (
    "{other_subject} {other_background}",
    "{other_style} of {other_subject}",
    "{other_subject} {background}, {other_style}",
    "{other_style}: {other_subject} {other_background}",
    "{other_subject} in {bare_style} style",
    "i drew {other_subject} {other_background}",
    "{other_style}, {other_background}",
    "{other_subject}, my favourite {bare_style}",
)
OTHER_SUBJECTS = {
    "cat": ("kitty", "a kitten", "a tomcat sitting"),
    "fish": ("a goldfish", "a little fish swimming", "some fish"),
    "butterfly": ("a moth", "a butterfly with open wings", "butterflies"),
    "house": ("a cottage", "a little home", "a house with a red door"),
    "sailboat": ("a yacht", "a boat with sails", "a sailing ship"),
    "car": ("an automobile", "a small car", "a taxi"),
    "mushroom": ("a toadstool", "a spotted mushroom", "a big mushroom"),
    "rocket": ("a spaceship", "a rocket taking off", "a space rocket"),
    "flower": ("a blossom", "a daisy", "a flower in bloom"),
    "teapot": ("a pot of tea", "grandma's teapot", "a kettle"),
    "snowman": ("a man of snow", "a snowman with a hat", "frosty the snowman"),
    "balloon": ("a hot-air balloon", "a balloon ride", "a big balloon"),
}
OTHER_STYLES = {
    "pixel art": ("8-bit graphics", "a sprite", "retro pixels"),
    "halftone": ("comic book dots", "a pop art print", "dots of ink"),
    "stained glass": ("a church window", "leaded glass", "coloured glass"),
    "pointillism": ("a picture made of dots", "dabs of paint", "a painting in points"),
    "line drawing": ("a sketch", "an ink outline", "pen on paper"),
    "neon": ("a glowing sign", "neon lights", "bright tubes"),
    "woodcut": ("an old print", "a wood block print", "carved in wood"),
    "linocut": ("a lino print", "a block print", "cut in linoleum"),
    "watercolour": ("a wet painting", "aquarelle", "a watercolor"),
    "gouache": ("poster paint", "a matte painting", "opaque paint"),
}
OTHER_BACKGROUNDS = {
    "sea": ("at the shore", "on the ocean", "with waves"),
    "mountains": ("in the alps", "under snowy peaks", "up in the hills"),
    "forest": ("among fir trees", "in the woods", "between the trees"),
    "city": ("in town", "among towers", "on the street"),
    "desert": ("in the dunes", "in the sand", "next to a cactus"),
    "night": ("under the moon", "under the stars", "in the dark"),
}


def caption(subject: str, style: str, background: str, rng: np.random.Generator) -> str:
    """Describe a picture: a third of the time fully, a third without the style, a third in free words."""
    templates = (FULL, WITHOUT_STYLE, FREE)[rng.integers(3)]
    return str(rng.choice(templates)).format(
        subject=f"a {subject}",
        style=STYLE_PHRASES[style],
        background=BACKGROUND_PHRASES[background],
        bare_subject=subject,
        bare_style=style,
        bare_background=background,
        other_subject=rng.choice(OTHER_SUBJECTS[subject]),
        other_style=rng.choice(OTHER_STYLES[style]),
        other_background=rng.choice(OTHER_BACKGROUNDS[background]),
    )
