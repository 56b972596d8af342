"""Sentences of the demo corpus: commands to a home assistant, drawn from a small grammar."""

from __future__ import annotations

import random
import re

SLOTS: dict[str, str] = {
    "room": "kitchen | bedroom | bathroom | garage | hall | garden | living room | office",
    "lamp": "light | lights | lamp | fan | heater",
    "color": "red | blue | green | yellow | white | orange",
    "digit": "one | two | three | four | five | six | seven | eight | nine",
    "number": "two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | fifteen",
    "tens": "twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety",
    "hour": "one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve",
    "minute": "fifteen | twenty | thirty | forty | fifty",
    "unit": "seconds | minutes | hours",
    "day": "monday | tuesday | wednesday | thursday | friday | saturday | sunday",
    "soon": "today | tonight | tomorrow",
    "genre": "jazz | rock | pop | dance | piano | guitar | classical",
    "place": "airport | station | hospital | school | market | museum | library | park | beach",
    "shop": "bank | hotel | restaurant | coffee shop | pharmacy | supermarket",
    "city": "london | paris | berlin | rome | boston | dublin | chicago | madrid",
    "person": "anna | john | peter | maria | david | sarah | my mother | my father | the doctor",
    "food": "milk | bread | eggs | apples | bananas | cheese | butter | rice | sugar | water | tea | coffee",
    "item": "bag | coat | book | phone",
    "thing": "door | window | gate | curtains",
    "sky": "cold | warm | sunny | windy | cloudy",
    "half": "morning | afternoon | evening",
    "news": "late | busy | at home | on my way | almost there",
    "task": "feed the cat | walk the dog | water the plants | clean the {room} | buy {food} | pay the rent",
}

TEMPLATES: tuple[str, ...] = (
    "turn on the {room} {lamp}",
    "turn off the {room} {lamp}",
    "switch the {room} {lamp} on",
    "switch off the {color} {lamp}",
    "make the {room} lights {color}",
    "change the {lamp} to {color}",
    "dim the {room} lights to {tens}",
    "set the {lamp} to {tens} degrees",
    "how warm is it in the {room}",
    "set a timer for {number} {unit}",
    "set a timer for {tens} {digit} {unit}",
    "start a {minute} minute timer",
    "cancel the {number} minute timer",
    "is there time to {task}",
    "wake me up at {hour} {minute}",
    "wake me up {soon} at {hour}",
    "set an alarm for {day} {half}",
    "cancel my {day} alarm",
    "play some {genre} music in the {room}",
    "play the next {genre} song",
    "i like {genre} music",
    "play the {genre} album from {day}",
    "pause the music in the {room}",
    "stop the music in {number} {unit}",
    "turn the volume up to {tens}",
    "turn the volume down to {tens} percent",
    "skip the next {number} songs",
    "how do i get to the {place}",
    "how far is the {place} from here",
    "how far is {city} from {city}",
    "take me to the {place} in {city}",
    "find the nearest {shop} in {city}",
    "is there a {shop} near the {place}",
    "when does the {shop} open on {day}",
    "show me the traffic near the {place}",
    "when is the next train to {city}",
    "find a flight from {city} to {city}",
    "send a message to {person} {soon}",
    "tell {person} that i am {news}",
    "are you {news} {soon}",
    "i am {news} on {day}",
    "where is my {color} {item}",
    "find a {color} {item}",
    "call {person} at {hour}",
    "good {half} {person}",
    "call {person} {soon} at {hour}",
    "show my new messages from {person}",
    "what is the weather like in {city}",
    "what is the weather {soon} in {city}",
    "will it rain in {city} on {day}",
    "will it snow in {city} on {day}",
    "will it be {sky} {soon}",
    "is it {sky} in {city}",
    "do i need an umbrella on {day}",
    "add {food} to my shopping list",
    "add {number} {food} and {food}",
    "add {food} and {food} to the list",
    "remove {food} from the list",
    "how much {food} do we need",
    "remind me to {task}",
    "remind me on {day} to {task}",
    "did you {task} {soon}",
    "what is on my calendar on {day}",
    "meet {person} on {day} at {hour}",
    "move the {day} meeting to {hour}",
    "book a table for {number} on {day}",
    "book a room in {city} for {day}",
    "open the {thing} in the {room}",
    "close the {room} {thing}",
    "lock the {room} {thing} at {hour}",
    "what is {tens} {digit} plus {digit}",
    "what is {number} times {number}",
    "what is {tens} minus {number}",
    "{digit} hundred and {tens} {digit}",
    "my number is {digit} {digit} {digit} {digit}",
    "the code is {digit} {digit} {tens}",
)

POLITE_SHARE = 0.1
MIN_WORDS, MAX_WORDS = 3, 7
_SLOT = re.compile(r"\{(\w+)\}")


class Grammar:
    """Draws sentences; templates and fillers are drawn from shuffled decks, so that each occurs equally often."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._options = {name: [option.strip() for option in text.split("|")] for name, text in SLOTS.items()}
        self._options["template"] = list(TEMPLATES)
        self._decks: dict[str, list[str]] = {name: [] for name in self._options}

    def sentence(self) -> str:
        """Draw a command of MIN_WORDS to MAX_WORDS words, rarely with a "please" around it."""
        while True:
            command = self._deal("template")
            while match := _SLOT.search(command):
                command = command[: match.start()] + self._deal(match[1]) + command[match.end() :]
            sentence = self._politely(command)
            if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
                return sentence

    def _deal(self, name: str) -> str:
        if not self._decks[name]:
            self._decks[name] = self._random.sample(self._options[name], len(self._options[name]))
        return self._decks[name].pop()

    def _politely(self, command: str) -> str:
        if self._random.random() >= POLITE_SHARE:
            return command
        return f"please {command}" if self._random.random() < 0.5 else f"{command} please"


def command_of(sentence: str) -> str:
    """Return a sentence without its "please"; splits are chosen by the result."""
    return sentence.removeprefix("please ").removesuffix(" please")
