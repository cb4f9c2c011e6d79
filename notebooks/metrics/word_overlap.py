# Written by %%isolated --save, and again each time the cell runs; checksum 44a34b0ad9d5.
def words(text: str) -> set[str]:
    return {word.strip(".,").lower() for word in text.split()}


def word_overlap(answer: str, reference: str) -> float:
    """Share of the reference's words that the answer has."""
    return len(words(answer) & words(reference)) / len(words(reference))


word_overlap
