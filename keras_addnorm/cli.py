"""The command line: `keras-addnorm export | bundle | verify | embed | bench | info | lint | ..`."""

import argparse
import sys

from keras_addnorm.quiet import quiet

DESCRIPTION = "Transformer encoders that leave Keras and run everywhere."
WIDTH = 200  # of tables in files and pipes, which have no edge to wrap at
SOURCE = (
    "a Hugging Face folder or owner/name, a .keras file, a KerasHub preset folder or name, or a "
    "name that `keras-addnorm list` shows"
)
MODEL = "a .tflite file or a SavedModel directory"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"error: {message}. See {self.prog} --help.\n")


def build_parser():
    """The argument parser; `run` is the name of a command's function in `commands`."""
    parser = Parser("keras-addnorm", description=DESCRIPTION)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="export a model and verify the result")
    export.add_argument("source", metavar="SOURCE", help=SOURCE)
    export.add_argument("out", metavar="OUT", help="OUT.tflite, or the directory of a SavedModel")
    _add_export_options(export, "float32")
    export.set_defaults(run="export")

    bundle = commands.add_parser(
        "bundle", help="export a text model as a folder with its tokenizer, for any language"
    )
    bundle.add_argument("source", metavar="SOURCE", help=SOURCE)
    bundle.add_argument("out", metavar="FOLDER", help="the folder of the bundle")
    bundle.add_argument(
        "--task",
        default="auto",
        metavar="TASK",
        help="embed or classify; default: what the checkpoint was made for",
    )
    bundle.add_argument(
        "--license", default=None, metavar="SPDX", help="of the weights, such as Apache-2.0"
    )
    _add_export_options(bundle, "dynamic_int8")
    bundle.set_defaults(run="bundle")

    verify = commands.add_parser("verify", help="compare an exported model with its source")
    verify.add_argument("model", metavar="MODEL", help=MODEL)
    verify.add_argument("--against", required=True, metavar="SOURCE", help=SOURCE)
    verify.set_defaults(run="verify")

    embed = commands.add_parser("embed", help="embed texts and print their cosine similarities")
    embed.add_argument("model", metavar="MODEL", help=f"{MODEL}, or the folder of a bundle")
    embed.add_argument("texts", metavar="TEXT", nargs="+", help="two texts or more")
    embed.set_defaults(run="embed")

    bench = commands.add_parser("bench", help="time .tflite files beside each other")
    bench.add_argument("files", metavar="FILE", nargs="+", help="a .tflite file, of any converter")
    bench.add_argument("--against", metavar="FILE", help="the file that ratios refer to")
    bench.add_argument(
        "--lengths", default="16,64,128", metavar="N,N", help="sequence lengths; default 16,64,128"
    )
    bench.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    bench.add_argument("--runs", type=int, default=50, metavar="N", help="a length; default 50")
    bench.add_argument(
        "--padding", type=float, default=0.0, metavar="SHARE", help="of each sequence; default 0"
    )
    bench.add_argument("--profile", action="store_true", help="time the operators too")
    bench.add_argument("--plot", metavar="OUT.png", help="draw the latency against the length")
    bench.add_argument("--overwrite", action="store_true", help="replace an existing plot")
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.set_defaults(run="bench")

    info = commands.add_parser("info", help="say what is in a model")
    info.add_argument("model", metavar="MODEL_OR_SOURCE", help=f"{MODEL}; or {SOURCE}")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run="info")

    lint = commands.add_parser("lint", help="say what in a .tflite file will hurt, and where")
    lint.add_argument("model", metavar="FILE", help="a .tflite file, made by anything")
    lint.add_argument("--json", action="store_true", help="print JSON")
    lint.set_defaults(run="lint")

    demo = commands.add_parser("demo", help="search sentences in a browser, on this machine")
    demo.add_argument(
        "--port", type=int, default=8000, metavar="N", help="default 8000; 0: a free one"
    )
    demo.add_argument(
        "--folder",
        default="saved_models/web",
        metavar="FOLDER",
        help="where the page and its model are made; default saved_models/web",
    )
    demo.set_defaults(run="demo")

    presets = commands.add_parser("list", help="list published architectures and weights")
    presets.add_argument("pattern", metavar="PATTERN", nargs="?", help="such as 'bert_*'")
    presets.add_argument("--family", default=None, metavar="FAMILY", help="a model type")
    presets.add_argument("--json", action="store_true", help="print JSON")
    presets.set_defaults(run="list_presets")

    convert = commands.add_parser("import", help="import a checkpoint and save it for Keras")
    convert.add_argument("source", metavar="SOURCE", help=SOURCE)
    convert.add_argument("out", metavar="OUT", help="OUT.keras, or the folder of a preset")
    convert.add_argument(
        "--task",
        default="auto",
        metavar="TASK",
        help="encoder, embed, classify, classify_tokens, answer, fill_mask or classify_images; "
        "default: what the checkpoint was made for",
    )
    convert.add_argument("--image-size", type=int, metavar="N", help="take images of N x N pixels")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    convert.add_argument("--json", action="store_true", help="print JSON")
    convert.set_defaults(run="import_checkpoint")
    return parser


def _add_export_options(command, recipe):
    """The options that `export` and `bundle` share; `recipe` is the default one."""
    command.add_argument(
        "--quantization",
        default=None,
        metavar="RECIPE",
        help="of a .tflite: float32, float16, dynamic_int8, weight_only_int8, mixed_int8, "
        f"full_int8 or int4; default {recipe}",
    )
    command.add_argument(
        "--sequence-length",
        default=None,
        metavar="N",
        help="a number, or 'any' (default)",
    )
    command.add_argument(
        "--lengths",
        default=None,
        metavar="N,N,..",
        help="of a .tflite: a signature for each length, for runtimes that cannot resize inputs",
    )
    command.add_argument(
        "--drop-input",
        action="append",
        default=[],
        metavar="NAME",
        help="of a .tflite: leave out padding_mask (texts are never padded) or segment_ids "
        "(texts have one segment); may be given twice",
    )
    command.add_argument(
        "--calibration",
        default=None,
        metavar="FILE",
        help="a text file, a text a line, for recipes that look at sample inputs",
    )
    command.add_argument(
        "--metadata",
        action="store_true",
        help="of a .tflite: write what MediaPipe's TextEmbedder or TextClassifier needs into it",
    )
    command.add_argument(
        "--metadata-field",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="of --metadata: what the file says of itself; name, description, version, author or "
        "license; may be given once for each",
    )
    command.add_argument("--overwrite", action="store_true", help="replace what is there")


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
                from keras_addnorm import commands

                show = getattr(commands, args.run)(args, progress)
            wide = None if sys.stdout.isatty() else WIDTH
            return show(Console(width=wide, **plain)) or 0
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


if __name__ == "__main__":
    sys.exit(main())
