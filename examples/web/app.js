/** The page: loads the bundle, embeds the sentences, and ranks them as the query is typed. */

import { loadBundle } from "./bundle.js";

const SHOWN = 8;
const DELAY = 100; // milliseconds without a key before a search

const $ = (selector) => document.querySelector(selector);
const query = $("#query");
const bar = $("progress");
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

let embedder = null;
let corpus = []; // { text, topic, embedding }
let asked = 0;

/** Ranks the corpus by cosine similarity; embeddings have length 1. */
function rank(embedding) {
  return corpus
    .map((entry) => ({ ...entry, score: dot(entry.embedding, embedding) }))
    .sort((a, b) => b.score - a.score);
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

async function search() {
  const text = query.value.trim();
  const mine = ++asked;
  if (embedder === null || corpus.length === 0) return;
  if (text === "") {
    $("#results").replaceChildren();
    show(`${corpus.length} sentences are ready.`);
    announce("");
    return;
  }
  const start = performance.now();
  const embedding = await embedder.embed(text);
  const embedded = performance.now();
  const ranked = rank(embedding);
  const done = performance.now();
  if (mine !== asked) return; // A later query is on its way.
  $("#results").replaceChildren(...ranked.slice(0, SHOWN).map(row));
  show(
    `Embedded in ${milliseconds(embedded - start)}, ` +
      `${corpus.length} sentences ranked in ${milliseconds(done - embedded)}.`,
  );
  announce(`The closest of ${corpus.length}: ${ranked[0].text}`);
}

function row({ text, topic, score }) {
  const item = document.createElement("li");
  const sentence = document.createElement("p");
  sentence.textContent = text;
  const track = document.createElement("div");
  track.className = "bar";
  track.ariaHidden = "true";
  const share = document.createElement("span");
  share.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  track.append(share);
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = `${score.toFixed(2)} · ${topic}`;
  item.append(sentence, track, note);
  return item;
}

function show(text) {
  $("#state").textContent = text;
}

/** Says to a screen reader what matters, which is less than what moves on the screen. */
function announce(text) {
  $("#news").textContent = text;
}

function showProgress(text, share) {
  show(text);
  bar.value = share;
}

/** A pause in which the page can draw and take keys. */
function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}

async function embedCorpus() {
  const topics = await (await fetch("sentences.json")).json();
  const entries = topics.flatMap(({ topic, sentences }) =>
    sentences.map((text) => ({ topic, text })),
  );
  const start = performance.now();
  for (const [index, entry] of entries.entries()) {
    entry.embedding = await embedder.embed(entry.text);
    if (index % 10 === 9) {
      showProgress(`Embedding ${entries.length} sentences`, (index + 1) / entries.length);
      await breathe();
    }
  }
  corpus = entries;
  return performance.now() - start;
}

/** Pages are kept by a service worker; the model is fetched through it, so that it is kept too. */
async function keepForOffline() {
  if (!("serviceWorker" in navigator)) return false;
  const registration = await navigator.serviceWorker.register("service-worker.js");
  const worker = registration.installing ?? registration.waiting;
  if (worker && !registration.active) {
    // `ready` would wait for ever for one that cannot be installed, as where storage is full.
    await new Promise((resolve) => worker.addEventListener("statechange", resolve, { once: true }));
    if (worker.state === "redundant") return false;
  }
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 2000);
    });
  }
  return Boolean(navigator.serviceWorker.controller);
}

function showFacts(check, seconds, offline) {
  const { model, embedding, files } = embedder.manifest;
  const size = (files[model.file].bytes / 1e6).toFixed(1);
  const right = check.total - check.wrong.length;
  $("#facts").textContent = [
    `Model: ${size} MB, ${model.quantization}, ${embedding.dimension} dimensions`,
    `${corpus.length} sentences embedded in ${seconds.toFixed(1)} s`,
    `tokenizer checked on ${right} of ${check.total} texts`,
    offline ? "works offline" : "does not work offline",
  ].join(" · ");
}

function fail(error) {
  bar.hidden = true;
  show("");
  $("#error").textContent = error.message;
  $("#error").hidden = false;
  console.error(error);
}

async function start() {
  const offline = await keepForOffline().catch(() => false);
  embedder = await loadBundle(new URL("bundle/", document.baseURI).href, (loaded, total) => {
    const of = `${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
    showProgress(`Loading the model, ${of}`, loaded / total);
  });
  const check = embedder.selfTest();
  if (check.wrong.length > 0) {
    throw new Error(
      "The tokenizer of this page is not that of the model: other ids for " +
        `${JSON.stringify(check.wrong[0].slice(0, 40))}. Serve the page of the same release.`,
    );
  }
  const elapsed = await embedCorpus();
  bar.hidden = true;
  showFacts(check, elapsed / 1000, offline);
  announce(`${corpus.length} sentences are ready.`);
  await search();
  return embedder;
}

let timer;
query.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => search().catch(fail), DELAY);
});
$("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  search().catch(fail);
});
$("#examples").addEventListener("click", ({ target }) => {
  if (target.tagName !== "BUTTON") return;
  query.value = target.textContent;
  search().catch(fail);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === query || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  query.focus();
});
query.focus({ preventScroll: true });

/** The embedder, once the page is ready; undefined if it never will be. */
export const ready = start().catch(fail);
