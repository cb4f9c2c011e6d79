"""Messages of customers to three support desks, the same ones every time, for `scoring_a_dataset.ipynb`."""

from __future__ import annotations

import json
import random
from pathlib import Path

HANDBOOK = Path(__file__).with_name("data") / "support_answers.json"

# The same questions as the handbook's, as somebody may ask who has not read it; by its id.
REWORDED = {
    1: "My card is gone, how can I stop anybody from using it?",
    2: "What do you charge for sending money to somebody at another bank?",
    3: "At what time of the day do payments from my employer arrive?",
    4: "Is my daughter old enough for an account of her own?",
    5: "I want to spend more than 500 euros a day, where do I set the limit?",
    6: "We are buying a flat, which papers do you want to see for the mortgage?",
    7: "What happens to my deposits if the bank goes under?",
    8: "I am moving to another bank, how do I end my account here?",
    9: "Why did the shop in Canada refuse my card?",
    10: "Am I covered on holiday with my Gold card?",
    11: "How much interest do I get on my savings a year?",
    12: "Does paying work with a watch instead of a card?",
    13: "There is a payment that I never made, how do I report it?",
    14: "Is it too late in November to put tulip bulbs into the ground?",
    15: "We planted a hedge last week, how much water does it want?",
    16: "The plant that I bought in May has died, do I get my money back?",
    17: "What can I sow under the trees, where there is hardly any sun?",
    18: "Could you bring my order at the weekend?",
    19: "Slugs eat everything, what helps that is not poison?",
    20: "Our cat chews on the lavender, is that bad for her?",
    21: "Which compost is right for blueberries?",
    22: "How many litres of mulch for 20 square metres?",
    23: "Which month is right for cutting roses back?",
    24: "May I pick up in the shop what I ordered online?",
    25: "Are the seeds treated with anything?",
    26: "Where do I put my geraniums in winter?",
    27: "What should I plant for the bees?",
    28: "Have you got vouchers for a birthday?",
    29: "Is a third suitcase extra?",
    30: "My plans have changed, can I take a later train with a Saver ticket?",
    31: "We were two hours late, how much of the fare do you pay back?",
    32: "What does the ticket cost for a child of 7?",
    33: "Does a large dog need a ticket?",
    34: "Can I work online on the train?",
    35: "We would like to sit together, how do I reserve seats?",
    36: "From which platform does my next train leave?",
    37: "How much is it to take a bicycle along in summer?",
    38: "I use a wheelchair, who helps me onto the train?",
    39: "Can I pay the conductor in cash?",
    40: "What do you do for us if the connection is missed and no train goes any more?",
}
OPENINGS = (
    "",
    "Hello! ",
    "Good morning. ",
    "Quick one: ",
    "I have been a customer for years, and I never had to ask for anything. ",
    "My sister told me that you are the right people to ask. ",
    "I looked in the app and on your site for an hour and could not find it. ",
    "I am on the train with my child and have no time to call you. ",
    "Sorry to bother you on a Saturday, but I do not know whom else to ask. ",
)
CLOSINGS = (
    "",
    " Thanks!",
    " Please answer soon.",
    " I need to know it by Monday.",
    " And please do not send me to the phone, I waited there for 30 minutes.",
    " That is free of charge for a good customer, I hope.",
)
UNREADABLE = 4  # messages that are a photo without a word


def messages(count: int = 500) -> list[dict[str, object]]:
    """Messages, each with its tenant, the question that it is about, and the right answer."""
    handbook = json.loads(HANDBOOK.read_text(encoding="utf-8"))
    chance = random.Random(1)  # noqa: S311 - not a secret: the same messages every time
    made: list[dict[str, object]] = []
    for number in range(1, count + 1):
        entry = chance.choice(handbook)
        question = chance.choice((entry["question"], REWORDED[entry["id"]]))
        text = _typed(chance.choice(OPENINGS) + question + chance.choice(CLOSINGS), chance)
        made.append(
            {
                "id": f"m{number:03}",
                "tenant": entry["tenant"],
                "question": entry["question"],
                "message": text,
                "reference": entry["reference"],
            }
        )
    for row in chance.sample(made, UNREADABLE):
        row["message"] = ""
    return made


def _typed(text: str, chance: random.Random) -> str:
    """The text as it comes from a phone: sometimes without capitals, sometimes with letters swapped."""
    if chance.random() < 0.3:
        text = text.lower()
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(text) - 1)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text
