"""The command line: `keras-addnorm export | verify | embed | info`."""

import argparse
import pathlib
import sys

from keras_addnorm_cli import quiet

DESCRIPTION = "Transformer encoders that leave Keras and run everywhere."
SOURCE = "a Hugging Face folder or owner/name, a .keras file, a KerasHub preset folder, or minilm"
MODEL = "a .tflite file or a SavedModel directory"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"error: {message}. See {self.prog} --help.\n")


def build_parser():
    """The argument parser; each command's function is in `run`."""
    parser = Parser("keras-addnorm", description=DESCRIPTION)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="export a model and verify the result")
    export.add_argument("source", metavar="SOURCE", help=SOURCE)
    export.add_argument("out", metavar="OUT", help="OUT.tflite, or the directory of a SavedModel")
    export.add_argument(
        "--quantization",
        default=None,
        metavar="RECIPE",
        help="of a .tflite: float32 (default), float16 or dynamic_int8",
    )
    export.add_argument(
        "--sequence-length",
        default=None,
        metavar="N",
        help="a number, or 'any'; default: 128 for a .tflite, any for a SavedModel",
    )
    export.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    export.set_defaults(run=run_export)

    verify = commands.add_parser("verify", help="compare an exported model with its source")
    verify.add_argument("model", metavar="MODEL", help=MODEL)
    verify.add_argument("--against", required=True, metavar="SOURCE", help=SOURCE)
    verify.set_defaults(run=run_verify)

    embed = commands.add_parser("embed", help="embed texts and print their cosine similarities")
    embed.add_argument("model", metavar="MODEL", help=MODEL)
    embed.add_argument("texts", metavar="TEXT", nargs="+", help="two texts or more")
    embed.set_defaults(run=run_embed)

    info = commands.add_parser("info", help="say what is in a model")
    info.add_argument("model", metavar="MODEL_OR_SOURCE", help=f"{MODEL}; or {SOURCE}")
    info.set_defaults(run=run_info)
    return parser


def main(argv=None):
    """Runs one command; returns the exit code."""
    args = build_parser().parse_args(argv)
    with quiet() as terminal:
        from rich.console import Console
        from rich.text import Text

        # Names and texts come from users and files: nothing in them is markup or an emoji code.
        plain = {"highlight": False, "markup": False, "emoji": False}
        notes = Console(file=terminal, **plain)
        try:
            with Progress(notes) as progress:
                progress("starting TensorFlow")
                show = args.run(args, progress)
            show(Console(**plain))
            return 0
        except KeyboardInterrupt:
            notes.print(Text("error:", "red"), "interrupted")
            return 130
        except Exception as error:
            if args.debug:
                notes.print_exception()
            message = " ".join(str(error).split()) or type(error).__name__
            notes.print(Text("error:", "red"), message, soft_wrap=True)
            return 1


class Progress:
    """Shows the current step: a spinner on a terminal, a line a step elsewhere."""

    def __init__(self, console):
        self._console = console
        self._status = console.status("")

    def __enter__(self):
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *exception):
        if self._console.is_terminal:
            self._status.stop()

    def __call__(self, step):
        from rich.text import Text

        if self._console.is_terminal:
            self._status.update(Text(step))  # A str would be read as markup.
        else:
            self._console.print(f"... {step}", soft_wrap=True)


def run_export(args, progress):
    """`keras-addnorm export`."""
    length = _sequence_length(args.sequence_length)
    path = pathlib.Path(args.out)
    if path.suffix.startswith(".tf") and path.suffix != ".tflite":
        raise ValueError(
            f"OUT ends in .tflite, or is the directory of a SavedModel. Received: {args.out}. "
            "Correct the ending."
        )
    if path.suffix != ".tflite" and args.quantization not in (None, "float32"):
        raise ValueError(
            f"A SavedModel is float32. Received: --quantization {args.quantization}. "
            "End OUT in .tflite to quantize."
        )
    from keras_addnorm import export, zoo
    from keras_addnorm.export.recipes import get_recipe
    from keras_addnorm.export.tables import report_table
    from keras_addnorm.files import refuse_existing

    refuse_existing([path], args.overwrite)
    recipe = get_recipe(args.quantization)
    progress(f"loading {args.source}")
    model = zoo.load(args.source)
    common = {"overwrite": args.overwrite, "progress": progress, **length}
    if path.suffix == ".tflite":
        report = export.to_tflite(model, path, quantization=recipe.name, **common)
    else:
        report = export.to_saved_model(model, path, **common)
    return lambda console: console.print(report_table(report))


def _sequence_length(text):
    if text is None:
        return {}
    if text == "any":
        return {"sequence_length": None}
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            "--sequence-length must be a positive whole number or 'any'. "
            f"Received: {text!r}. Pass for instance 128."
        )
    return {"sequence_length": int(text)}


def run_verify(args, progress):
    """`keras-addnorm verify`."""
    from keras_addnorm import export, zoo
    from keras_addnorm.export.tables import differences_table

    progress(f"loading {args.against}")
    model = zoo.load(args.against)
    recipe, differences = export.verify_file(model, args.model, progress)

    def show(console):
        console.print(differences_table(differences))
        console.print(
            f"{args.model} is the same model as {args.against}, within the tolerance of "
            f"{recipe.name}.",
            soft_wrap=True,
        )

    return show


def run_embed(args, progress):
    """`keras-addnorm embed`."""
    if len(args.texts) < 2:
        raise ValueError("Similarity needs two texts or more. Received: 1. Pass another TEXT.")
    from keras_addnorm.export.embed import embed_texts
    from keras_addnorm.export.tables import similarity_table

    progress(f"embedding {len(args.texts)} texts with {args.model}")
    embeddings, cut = embed_texts(args.model, args.texts)

    def show(console):
        console.print(similarity_table(args.texts, {"cosine": embeddings}))
        for index in cut:
            console.print(f"Text {index + 1} is longer than the model takes and was cut.")

    return show


def run_info(args, progress):
    """`keras-addnorm info`."""
    path = pathlib.Path(args.model)
    if path.suffix == ".tflite" or (path / "saved_model.pb").is_file():
        from keras_addnorm.export.tables import file_table

        progress(f"reading {path}")
        table = file_table(path)
        return lambda console: console.print(table)
    from keras_addnorm import zoo
    from keras_addnorm.export.tables import model_table

    progress(f"loading {args.model}")
    table = model_table(zoo.load(args.model))
    return lambda console: console.print(table)


if __name__ == "__main__":
    sys.exit(main())
