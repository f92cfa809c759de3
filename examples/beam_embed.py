"""Embeds a corpus with Apache Beam's RunInference on a text bundle.

    pip install apache-beam ai-edge-litert tokenizers pyarrow
    python examples/beam_embed.py BUNDLE OUT TEXTS.txt [MORE.parquet] [--column text]

BUNDLE is a folder of `export.to_text_bundle`, OUT a folder, and each input a text file with a text
a line or a Parquet file. Rows are numbered through all inputs and cut into shards; each shard
becomes OUT/part-00000.parquet (id, text, embedding), under that name only once it is whole. Run it
again after a crash: shards that are there are left out. It runs in this process; Beam's own
options run it elsewhere, such as --runner=FlinkRunner or --runner=DataflowRunner.
"""

import argparse
import hashlib
import itertools
import json
import sys
import threading
import uuid

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems as files
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions


class Model:
    """What a worker loads once."""

    def __init__(self, tokenizer, run):
        self.tokenizer, self.run = tokenizer, run


class Bundle(ModelHandler):
    """A text bundle in LiteRT, which needs no TensorFlow; an example is a (shard, texts)."""

    def __init__(self, folder):
        super().__init__(max_batch_size=1, large_model=False)
        self.folder = folder

    def load_model(self):
        from ai_edge_litert.interpreter import Interpreter
        from tokenizers import Tokenizer

        def read(name):
            return files.open(files.join(self.folder, name)).read()

        manifest = json.loads(read("manifest.json"))
        tokenizer = Tokenizer.from_str(read(manifest["tokenizer"]["file"]).decode())
        tokenizer.enable_truncation(manifest["tokenizer"]["max_length"])
        tokenizer.no_padding()
        model = Interpreter(model_content=read(manifest["model"]["file"]), num_threads=1)
        return Model(tokenizer, model.get_signature_runner())

    def run_inference(self, batch, model, inference_args=None):
        for shard, texts in batch:
            encoded = model.tokenizer.encode_batch(texts)
            embeddings = [None] * len(texts)
            for row in sorted(range(len(texts)), key=lambda row: len(encoded[row].ids)):
                one = encoded[row]  # at its own length: no padding
                values = one.ids, one.attention_mask, one.type_ids
                names = "token_ids", "padding_mask", "segment_ids"
                inputs = {n: np.array([v], "int32") for n, v in zip(names, values, strict=True)}
                wanted = {name: inputs[name] for name in model.run.get_input_details()}
                embeddings[row] = model.run(**wanted)["embedding"][0].copy()
            yield PredictionResult((shard, texts), embeddings)


def plan(inputs, lines):
    """All shards: so many lines of a text file, or a row group of a Parquet file."""
    shards, rows = [], 0

    def add(path, size, **where):
        nonlocal rows
        name = f"part-{len(shards):05d}.parquet"
        shards.append({"name": name, "path": path, "id": rows, "rows": size, **where})
        rows += size

    for path in inputs:
        with files.open(path) as file:
            if path.endswith(".parquet"):
                groups = pq.ParquetFile(file).metadata
                for group in range(groups.num_row_groups):
                    add(path, groups.row_group(group).num_rows, group=group)
                continue
            start = 0
            while block := list(itertools.islice(file, lines)):
                size = sum(map(len, block))
                add(path, len(block), start=start, bytes=size)
                start += size
    return shards


def read_shard(shard, column):
    with files.open(shard["path"]) as file:
        if "group" in shard:
            group = pq.ParquetFile(file).read_row_group(shard["group"], columns=[column])
            texts = group[column].to_pylist()
            if None in texts:
                row = shard["id"] + texts.index(None)
                raise ValueError(f"{shard['path']}: {column!r} is null in row {row}. Fill it in.")
            return shard, texts
        file.seek(shard["start"])
        block = file.read(shard["bytes"]).decode()
        return shard, [line.rstrip("\r") for line in block.removesuffix("\n").split("\n")]


def write_shard(result, out):
    (shard, texts), embeddings = result.example, result.inference
    ids = pa.array(range(shard["id"], shard["id"] + len(texts)), pa.int64())
    vectors = pa.array(embeddings, pa.list_(pa.float32()))
    draft = files.join(out, f"draft-{uuid.uuid4().hex}")
    with files.create(draft) as file:
        pq.write_table(pa.table({"id": ids, "text": texts, "embedding": vectors}), file)
    files.rename([draft], [files.join(out, shard["name"])])


def finished(out):
    found = files.match([files.join(out, "part-*.parquet")])[0].metadata_list
    return {metadata.path.replace("\\", "/").rsplit("/", 1)[1] for metadata in found}


def begin(out, shards, bundle, column):
    """Keeps the plan in OUT, where another would mix corpora or models; what is left of it."""
    with files.open(files.join(bundle, "manifest.json")) as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    path = files.join(out, "plan.json")
    text = json.dumps({"manifest": digest, "column": column, "shards": shards}, indent=1)
    if files.exists(path):
        with files.open(path) as file:
            if file.read().decode() != text:
                sys.exit(f"error: {out} holds another plan: inputs, shards or bundle differ.")
        drafts = files.match([files.join(out, "draft-*")])[0].metadata_list
        if drafts:
            files.delete([metadata.path for metadata in drafts])
    else:
        if not files.exists(out):
            files.mkdirs(out)
        draft = files.join(out, f"draft-{uuid.uuid4().hex}")
        with files.create(draft) as file:
            file.write(text.encode())
        files.rename([draft], [path])
    done = finished(out)
    return [shard for shard in shards if shard["name"] not in done]


def show_progress(out, shards, stop):
    while True:
        last = stop.wait(2)
        done = finished(out)
        rows = sum(shard["rows"] for shard in shards if shard["name"] in done)
        of = sum(shard["rows"] for shard in shards)
        print(f"{len(done)} of {len(shards)} shards, {rows} of {of} rows", file=sys.stderr)
        if last:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("out")
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--column", default="text", help="of Parquet files; default: text")
    parser.add_argument("--shard-lines", type=int, default=1000, help="of text files")
    args, others = parser.parse_known_args()
    options = PipelineOptions(others)
    options.view_as(SetupOptions).save_main_session = True
    shards = plan(args.inputs, args.shard_lines)
    left, stop = begin(args.out, shards, args.bundle, args.column), threading.Event()
    shown = threading.Thread(target=show_progress, args=(args.out, shards, stop))
    shown.start()
    try:
        with beam.Pipeline(options=options) as pipeline:
            (
                pipeline
                | beam.Create(left)
                | beam.Reshuffle()  # so that shards go to different workers
                | beam.Map(read_shard, args.column)
                | RunInference(Bundle(args.bundle))
                | beam.Map(write_shard, args.out)
            )
    finally:
        stop.set()
        shown.join()


if __name__ == "__main__":
    main()
