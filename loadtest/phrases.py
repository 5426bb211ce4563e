"""Sentences such as people send to a chat assistant or post below an article: written for this project, nobody's data."""

GREETINGS = (
    "Hi there,", "Hello,", "Hey,", "Good morning,", "Thanks,", "Sorry,", "Honestly,", "Well,", "By the way,",
    "Just so you know,",
)  # fmt: skip
PEOPLE = (
    "my sister", "the new manager", "our landlord", "my neighbour", "the whole team", "my doctor", "that reviewer",
    "the driver",     "a friend of mine", "the support agent", "my grandmother", "the moderator", "our teacher",
    "everybody in this thread",
)  # fmt: skip
DEEDS = (
    "forgot to answer the last two messages", "wants to move the meeting to Thursday", "said the parcel was never delivered",
    "keeps asking for the same password again", "recommended a book about early railways", "is planning a trip along the coast",
    "thinks the update made everything slower", "cannot find the invoice from last month", "shouted at the poor cashier",
    "finally fixed the leaking tap in the kitchen", "posted the same comment in five groups", "burnt the rice once more",
    "has never been so disappointed in a film", "would rather cycle than take the bus", "sold the old camera for a fair price",
)  # fmt: skip
THINGS = (
    "a sourdough starter", "the refund for my order", "a spreadsheet with monthly costs", "the second chapter of my novel",
    "a nested loop in Python", "an old diesel engine", "the dishwasher", "my visa application", "a quiet place to study",
    "the difference between weather and climate", "a birthday speech for my uncle", "the router in our office",
    "a poem about rain", "the settings of my phone", "a training plan for a half marathon", "the causes of the war",
)  # fmt: skip
ASKS = (
    "Could you explain {thing} in simple words?", "How do I deal with {thing}?", "What is the best way to start with {thing}?",
    "Please write a short text about {thing}.", "Can you summarise what I should know about {thing}?",
    "Why does {thing} take so long?", "I need help with {thing} before tomorrow evening.", "Is {thing} really worth the money?",
)  # fmt: skip
STATEMENTS = (
    "{Person} {deed}.", "Yesterday {person} {deed}, and nobody noticed.", "I heard that {person} {deed}.",
    "{Person} {deed}, which is why I am writing to you.", "When {person} {deed}, we all had to laugh.",
    "It turned out that {person} {deed} because of {thing}.", "For weeks {person} has talked about {thing}.",
    "We compared {thing} with {thing} and could not decide.", "In the end {thing} mattered more than {thing}.",
)  # fmt: skip
RUDE = (
    "You are an idiot and so is {person}.", "Nobody wants to read your stupid opinion about {thing}.",
    "What the hell is wrong with {person}?",
    "Shut up about {thing}, you moron.", "I hate how {person} {deed}.", "{Person} should be ashamed and go away for good.",
)  # fmt: skip
