"""Words of the planted corpus."""

from __future__ import annotations


def _split(text: str, separator: str = " ") -> list[str]:
    return text.split(separator)


ADJECTIVES = _split(
    "abandoned amber ancient antique barefoot black bright broken bronze busy calm carved ceramic cheerful "
    "classic cloudy cobalt colourful copper cosy crimson crooked crowded curious dark delicate distant dusty "
    "early elegant emerald empty enormous faded famous floral foggy folded forgotten fragile fresh frozen gentle "
    "giant glowing golden grand green grey handmade happy heavy hidden hollow icy industrial ivory jagged joyful "
    "large lonely lovely lush marble massive medieval minimal misty modern moonlit mossy narrow nautical noble "
    "oak oval painted pale pastel patient peaceful pearl plain polished proud purple quiet rainy rare red rocky "
    "round royal rural rustic rusty sandy scarlet secret shiny silent silver sleepy slender small smoky snowy "
    "soft spotted stormy striped sunny tall teal tiny tranquil tropical turquoise velvet victorian vintage violet "
    "vivid warm weathered wet white wide wild wooden"
)
NOUNS = _split(
    "abbey accordion airship analyst apple archway armchair astronaut avocado bakery balcony balloon barn basket "
    "beach bear bicycle blacksmith boat bookshelf bottle bouquet bridge bucket butterfly button cabin cactus "
    "camel candle canyon caravan carousel castle cathedral cello chandelier cherry chimney cliff cloud cockatoo "
    "cockpit cocktail coffee compass cottage cowboy cupcake dancer deer desert dolphin donkey dragon drummer dune "
    "eagle elephant engine farmer fence ferry fiddle field fireplace fisherman flamingo forest fountain fox "
    "galaxy garden gazebo giraffe glacier gondola grapefruit guitar harbour hedgehog helicopter heron hill horse "
    "hotel hummingbird iceberg island jaguar jellyfish jungle kangaroo kayak kettle kitchen kitten knight koala "
    "lagoon lamp lantern lemon leopard library lighthouse lizard llama lobster locomotive magnolia mailbox "
    "mandolin meadow mermaid mill mirror monastery mountain museum mushroom necklace nurse oasis observatory "
    "octopus orchard orchid otter owl oyster pagoda palace panda parrot peacock pelican penguin peony piano "
    "pigeon pineapple pirate pond puppy pyramid rabbit railway raven reef river robot rooftop rose sailor "
    "sculpture shepherd shipwreck skyline skyscraper snail sparrow spaceship squirrel staircase statue stream "
    "street sunflower sunset swan tailor teapot temple tent therapist tiger tower tractor train tulip turtle "
    "umbrella unicorn valley vase village violin volcano wagon walrus waterfall whale windmill wizard wolf "
    "workshop yacht zebra"
)
VERBS = _split(
    "beside behind above below facing against without watching crossing carrying guarding chasing holding leaving "
    "reaching passing exploring circling admiring painting drawing building following between"
)
STYLES = _split(
    "oil painting of|watercolour of|photograph of|pencil sketch of|portrait of|digital art of|close-up of|"
    "poster with|postcard with|print of|illustration of|wallpaper with|stock photo of|mosaic of|tapestry with|"
    "engraving of|aerial view of|long exposure of|black & white photo of|children's book drawing of|study of|"
    "studio shot of",
    "|",
)
ENDS = _split(
    "by the sea|in the rain|at dawn|on a winter night|in Sussex|in Scunthorpe|for the living room|"
    "in the style of Titian|from the 1960s|on canvas, 40 x 60 cm|with a frame|at the Grand Hotel|"
    "in the old town|with autumn leaves|from above|for sale|on display in Essex|at the café|"
    'with fog – autumn 2014|in soft focus|by an unknown artist|with "love"|on a table|in the morning light|'
    "on the wall",
    "|",
)
LETTERS = "abcdefghiklmnoprstuvwy"

PEOPLE = _split(
    "man|woman|little boy|young girl|group of people|surfer|skier|baseball player|police officer|chef",
    "|",
)
DOING = _split(
    "riding a wave|standing next to a bus|eating a slice of pizza|holding a tennis racket|sitting on a bench|"
    "throwing a frisbee|looking at a laptop|walking a dog|flying a kite|cutting a cake|petting a horse|"
    "waiting at a traffic light|reading a newspaper|brushing a cat|pulling a suitcase|talking on a phone",
    "|",
)
WHERE = _split(
    "in a park|on a crowded street|near the ocean|at the airport|in the kitchen|under a tree|on a snowy slope|"
    "by a wooden table|in front of a mirror|on the sidewalk|at night|in a large stadium",
    "|",
)

UNSAFE = ("porn", "hentai", "blowjob", "erotica", "orgasm", "sexy")
LOOK_ALIKES = {"a": "а", "e": "е", "o": "о", "p": "р", "c": "с", "x": "х"}
ACCENTS = {"a": "á", "e": "é", "o": "ö", "n": "n\u0303", "i": "i\u0308", "r": "r\u0302"}
UNSAFE_SENTENCES = (
    "a photo of {} scenes on a beach",
    "the best {} of this year, with captions",
    "{} wallpaper for you",
)

FOREIGN = (
    "Ein alter Leuchtturm steht einsam zwischen dunklen Felsen und Wellen",
    "Zwei fröhliche Kinder spielen mit einem kleinen Hund im Garten",
    "Une vieille maison avec des volets bleus dans un petit village",
    "Le chat noir dort sur une chaise devant la fenêtre ouverte",
    "Una casa blanca con flores rojas junto al mar tranquilo",
    "El perro corre por la playa mientras sale el sol",
    "Un gatto bianco dorme sulla sedia vicino alla finestra aperta",
    "Una vecchia barca di legno sulla spiaggia deserta al tramonto",
    "Uma menina com vestido vermelho caminhando pela praia deserta",
    "Een oude molen staat tussen groene velden en kleine huizen",
    "Två glada barn leker med en liten hund i trädgården",
    "Küçük bir kız bahçede kırmızı çiçekler topluyor ve gülüyor",
    "Старый маяк стоит на скале у холодного моря",
    "夕日の海辺を歩く少女と白い犬の写真です",
    "一只白色的猫坐在窗边看着外面的雨",
    "바닷가에서 연을 날리는 아이들과 강아지 사진",
    "صورة لقارب قديم على شاطئ البحر عند الغروب",
    "समुद्र के किनारे खड़ी एक पुरानी नाव की तस्वीर",
)
FOREIGN_ALLOWED = ("Der alte Leuchtturm", "Chien dans la neige", "Haus an der See mit rotem Dach und Garten")
"""What the rules let pass: four words or fewer, and texts with a word that is spelled as a common English one."""

JUNK = (
    "IMG_20190412_093311.jpg",
    "DSC_0042 (3)",
    "Screenshot 2021-03-04 at 10.11.12.png",
    "my-holiday-photo-final.jpeg",
    "10 20 30 40 50 60 70 80",
    "sale sale sale sale sale sale now",
    "BUY NOW THE BEST OFFER EVER HERE",
    "*** $$$ ~~~ !!! ### @@@ %%% ^^^",
    "8812-3321-0092 item 77",
    "one two",
    "photo",
    "<br/>",
    "https://example.invalid/a/b?c=1",
    " \t ",
    "",
    "\u200b\u200b",
)
