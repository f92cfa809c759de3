/** A text bundle of keras_addnorm, fetched, checked against its manifest, and run by LiteRT.js. */

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { Tokenizer } from "./tokenizer.js";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).href;

/** LiteRT writes its notes where errors go; `Module` is where its glue code looks for a printer. */
function printQuietly() {
  const print = (line) => (/^(INFO|WARNING): /.test(line) ? console.debug : console.error)(line);
  globalThis.Module = { printErr: print };
}

/**
 * Loads a bundle.
 *
 * @param {string} folder its address, with a slash at the end.
 * @param {(loaded: number, total: number) => void} [onProgress] of the model's bytes.
 * @returns {Promise<Embedder>}
 * @throws {Error} if it is none, or a file is not the one that the manifest names.
 */
export async function loadBundle(folder, onProgress = () => {}) {
  const answer = await fetch(`${folder}manifest.json`);
  if (!answer.ok) {
    throw new Error(`The page needs a text bundle at ${folder}. Received: status ${answer.status}.`);
  }
  const manifest = await answer.json();
  check(manifest);
  const settings = JSON.parse(await text(folder, manifest, manifest.tokenizer.file));
  const cases = JSON.parse(await text(folder, manifest, "tokenization.json"));
  printQuietly();
  const [model] = await Promise.all([
    bytes(folder, manifest, manifest.model.file, onProgress),
    loadLiteRt(WASM, { threads: globalThis.crossOriginIsolated }),
  ]);
  const compiled = await loadAndCompile(model, { accelerator: "wasm" });
  return new Embedder(manifest, new Tokenizer(settings), cases, compiled);
}

/** Text in, embedding out. */
export class Embedder {
  #model;
  #signatures;
  #cases;

  constructor(manifest, tokenizer, cases, model) {
    this.manifest = manifest;
    this.tokenizer = tokenizer;
    this.#cases = cases;
    this.#model = model;
    this.#signatures = [...manifest.model.signatures].sort((a, b) => a.length - b.length);
  }

  /** Texts whose ids are not those that the bundle's own tokenizer gave, and the number of all. */
  selfTest() {
    const { cases, max_length } = this.#cases;
    const wrong = cases.filter(
      ({ text, ids }) => String(this.tokenizer.encode(text, max_length)) !== String(ids),
    );
    return { wrong: wrong.map(({ text }) => text), total: cases.length };
  }

  /**
   * @param {string} text cut to the longest length of the model.
   * @returns {Promise<Float32Array>} an embedding of `manifest.embedding.dimension` values.
   */
  async embed(text) {
    const ids = this.tokenizer.encode(text, this.#signatures.at(-1).length);
    const signature = this.#signatures.find(({ length }) => length >= ids.length);
    const inputs = {};
    for (const { name } of signature.inputs) {
      inputs[name] = new Tensor(this.#values(name, ids, signature.length), [1, signature.length]);
    }
    let outputs = {};
    try {
      outputs = await this.#model.run(signature.name, inputs);
      // A copy: the memory belongs to the runtime.
      return Float32Array.from(await Object.values(outputs)[0].data());
    } finally {
      for (const tensor of Object.values({ ...inputs, ...outputs })) tensor.delete();
    }
  }

  #values(name, ids, length) {
    const padding = name === "token_ids" ? this.manifest.tokenizer.pad_token_id : 0;
    const values = new Int32Array(length).fill(padding);
    if (name === "token_ids") values.set(ids);
    if (name === "padding_mask") values.fill(1, 0, ids.length);
    return values;
  }
}

function check(manifest) {
  if (manifest.format !== "keras_addnorm text bundle" || manifest.version !== 1) {
    throw new Error(
      "manifest.json must be that of a keras_addnorm text bundle, version 1. " +
        `Received: ${manifest.format}, ${manifest.version}. Make the bundle again.`,
    );
  }
  const lengths = manifest.model.signatures.map(({ length }) => length);
  if (manifest.task !== "embed" || lengths.includes(null)) {
    throw new Error(
      "LiteRT.js runs fixed lengths only, and this page embeds. " +
        `Received: a bundle for ${manifest.task}, lengths ${lengths.map((n) => n ?? "any")}. ` +
        "Make one of a TextEmbedder with lengths=(16, 64, 128).",
    );
  }
}

async function text(folder, manifest, name) {
  return new TextDecoder().decode(await bytes(folder, manifest, name));
}

/** A file of the bundle. Its digest is in its address, so a changed file is never an old one. */
async function bytes(folder, manifest, name, onProgress = () => {}) {
  const entry = manifest.files[name];
  const answer = await fetch(`${folder}${name}?sha256=${entry.sha256}`);
  if (!answer.ok) throw new Error(`${name} is missing: status ${answer.status}.`);
  const data = new Uint8Array(entry.bytes);
  let loaded = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (loaded + value.length > entry.bytes) throw broken(name);
    data.set(value, loaded);
    loaded += value.length;
    onProgress(loaded, entry.bytes);
  }
  if (loaded !== entry.bytes) throw broken(name);
  // Digests are to be had on https and localhost only.
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex !== entry.sha256) throw broken(name);
  }
  return data;
}

function broken(name) {
  return new Error(`${name} is not the file that manifest.json names. Make the bundle again.`);
}
