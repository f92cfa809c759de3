"""examples/beam_embed.py: 10,000 texts, killed half-way and started again."""

import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from keras_addnorm import export
from tests.clients.conftest import ROOT, client_python
from tests.export import common

SCRIPT = ROOT / "examples" / "beam_embed.py"
ROWS, SHARD = 10_000, 250


def command(*arguments):
    return [client_python("beam"), SCRIPT, *map(str, arguments)]


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def embed(*arguments):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=600, env=environment()
    )


def rows_of(out, tmp_path):
    """Ids, texts and embeddings of all shards, read by the client's pyarrow."""
    code = (
        "import sys, numpy, pyarrow.dataset as d; t = d.dataset(sys.argv[1], format='parquet', "
        "exclude_invalid_files=False, ignore_prefixes=['plan']).to_table(); "
        "numpy.savez(sys.argv[2], id=t['id'].to_numpy(), text=numpy.array(t['text'].to_pylist()), "
        "embedding=numpy.stack(t['embedding'].to_numpy()))"
    )
    path = tmp_path / "rows.npz"
    subprocess.run([client_python("beam"), "-c", code, out, path], check=True, env=environment())
    return np.load(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small random embedder, and its bundle."""
    model = common.embedder()
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export.to_text_bundle(model, folder, quantization="float32")
    return model, folder


@pytest.fixture(scope="module")
def texts():
    """Different texts; one of them empty."""
    words = common.WORDS
    made = [" ".join(words[n // 17**k % 17] for k in range(4)) + f" {n}" for n in range(ROWS)]
    return [*made[:-1], ""]


def kill_half_way(out, *arguments):
    """Starts the script and kills it, and what it started, when half the shards are there."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    for _ in range(6000):
        done = len(list(out.glob("part-*.parquet")))
        if done >= ROWS // SHARD // 2 or process.poll() is not None:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    return sorted(path.name for path in out.glob("part-*.parquet"))


def test_no_row_is_lost_or_doubled(tiny, texts, tmp_path):
    model, bundle = tiny
    corpus, out = tmp_path / "corpus.txt", tmp_path / "out"
    corpus.write_text("\n".join(texts) + "\n", encoding="utf-8")
    arguments = bundle, out, corpus, "--shard-lines", SHARD
    before = kill_half_way(out, *arguments)
    assert 0 < len(before) < ROWS // SHARD
    times = {name: (out / name).stat().st_mtime_ns for name in before}

    done = embed(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{ROWS // SHARD} of {ROWS // SHARD} shards, {ROWS} of {ROWS} rows" in done.stderr
    # Shards that were there are as they were, and nothing but shards and their plan is left.
    assert {name: (out / name).stat().st_mtime_ns for name in before} == times
    names = [f"part-{n:05d}.parquet" for n in range(ROWS // SHARD)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "plan.json"]

    rows = rows_of(out, tmp_path)
    assert rows["id"].tolist() == list(range(ROWS))
    assert rows["text"].tolist() == texts and len(set(texts)) == ROWS
    for part in range(0, ROWS, 500):  # float32, and padding, which changes the order of sums
        some = slice(part, part + 500)
        expected = model.encode_text(texts[some], batch_size=500)
        np.testing.assert_allclose(rows["embedding"][some], expected, atol=1e-5)

    again = embed(*arguments)
    assert again.returncode == 0 and again.stdout == ""
    other = embed(bundle, out, corpus, "--shard-lines", SHARD + 1)
    assert other.returncode == 1 and "holds another plan" in other.stderr
    shutil.copytree(bundle, tmp_path / "b")
    with open(tmp_path / "b" / "manifest.json", "a") as file:
        file.write(" ")
    other = embed(tmp_path / "b", out, corpus, "--shard-lines", SHARD)
    assert other.returncode == 1 and "holds another plan" in other.stderr


def test_real_sentences_of_a_parquet_file(embedder, sentences, tmp_path):
    bundle = tmp_path / "bundle"
    export.to_text_bundle(embedder, bundle)
    table = tmp_path / "in.parquet"
    code = (
        "import sys, pyarrow as pa, pyarrow.parquet as p; p.write_table(pa.table({'sentence': "
        "open(sys.argv[1], encoding='utf-8').read().splitlines()}), sys.argv[2], row_group_size=30)"
    )
    source = ROOT / "examples" / "data" / "sentences.txt"
    subprocess.run([client_python("beam"), "-c", code, source, table], check=True)
    done = embed(bundle, tmp_path / "out", table, "--column", "sentence")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "4 of 4 shards, 100 of 100 rows" in done.stderr
    rows = rows_of(tmp_path / "out", tmp_path)
    assert rows["text"].tolist() == sentences
    cosines = (rows["embedding"] * embedder.encode_text(sentences)).sum(axis=1)
    assert cosines.min() >= export.RECIPES["dynamic_int8"].min_cosine
