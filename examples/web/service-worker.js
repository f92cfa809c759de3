/**
 * Keeps what the page loads, so that it works without a network.
 *
 * A file with its digest in its address never changes: the kept one is as good as another. For all
 * else the network's answer counts, and the kept one stands in where there is none.
 */

const KEPT = "keras-addnorm";
// What was loaded before this worker took over.
const PAGE = ["./", "index.html", "style.css", "icon.svg", "app.js", "bundle.js"];
const MODULES = [
  ...["tokenizer.js", "unicode.js", "sentences.json"],
  "node_modules/@litertjs/core/dist/index.js",
  "node_modules/@litertjs/wasm-utils/dist/index.js",
];

// Another program may be served from this address later: what is not of this page is left alone.
const OURS = /^([a-z-]+\.(html|css|js|json|svg)|bundle\/.*|node_modules\/@litertjs\/.*)?$/;

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll([...PAGE, ...MODULES])));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const base = new URL("./", self.location).href;
  if (event.request.method !== "GET" || !url.href.startsWith(base)) return;
  if (!OURS.test((url.origin + url.pathname).slice(base.length))) return;
  event.respondWith(url.searchParams.has("sha256") ? kept(event) : fresh(event));
});

async function kept(event) {
  const found = await (await caches.open(KEPT)).match(event.request);
  return found ?? fresh(event);
}

async function fresh(event) {
  const cache = await caches.open(KEPT);
  let answer;
  try {
    answer = await fetch(event.request);
  } catch (error) {
    const found = await cache.match(event.request);
    if (found) return found;
    throw error;
  }
  if (answer.status === 200) event.waitUntil(keep(cache, event.request, answer.clone()));
  return answer;
}

/** Keeps an answer, and lets go of what was kept of the same file in another version. */
async function keep(cache, request, answer) {
  await cache.put(request, answer);
  for (const old of await cache.keys(request, { ignoreSearch: true })) {
    if (old.url !== request.url) await cache.delete(old);
  }
}
