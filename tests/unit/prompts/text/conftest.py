"""Captions as the web has them, made by rule: most are plain, some have what every rule of cleaning is for."""

import random

import polars as pl
import pytest

PLAIN = """
vintage red dog house on the beach with blue sky and white clouds for sale in London by artist of a woman portrait Paris
2019 Wedding Photography: free stock photo, royalty-free vector background isolated kids' room car's wheel Christmas,
(12x18) 100% cotton T-shirt & mug - black/white | Amazon.com NEW Kitchen IMG_2041 www blue-grey glass buses is was this
"""
HOSTILE = """
Héllo café Zürich naïve ﬁne İstanbul ΣΟΦΟΣ straße ½ cup №5 5′ 6″ “quoted” ‘it’s’ «fine» – … • ™ Ⅳ ＡＢＣ １２ 日本の猫
東京 Москва ελληνικά 🐈 ❤️ 👍🏽 &amp; &quot;so&quot; &#39;n&#39; R&D AT&T &nbsp; &copy2019 &lt;b&gt; <b>bold</b> <br/>
3<5 <3 https://example.invalid/a.jpg www.example.invalid awww.x ``` ` ' " ｗｗｗ．x ﷺ ☺
"""
INVISIBLE = ["", "\u200b", "e\u0301", "\u00a0", "\t", "\x1c", "\x85", "x\u2028y"]


@pytest.fixture(scope="session")
def captions() -> pl.Series:
    """20,000 of them."""
    rng = random.Random(0)
    plain = PLAIN.split()
    every = plain + HOSTILE.split() + INVISIBLE
    texts = []
    for _ in range(20_000):
        words = rng.choices(plain if rng.random() < 0.6 else every, k=rng.randrange(14))
        wrapper = rng.choice(["{}", "{}", "{}", '"{}"', "“{}”", " {}", "<p>{}</p>"])
        texts.append(wrapper.format(" ".join(words)))
    return pl.Series("text", texts)
